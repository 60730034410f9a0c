/** A private directory (mode 700) for work in progress. */
export interface ScratchDir {
  /** Absolute. */
  readonly path: string;
  /** Deletes it with everything in it. Idempotent. */
  remove(): Promise<void>;
}

/**
 * Room on local disk for work in progress. What a killed process left there is swept when the space is next opened, so
 * that a crash costs disk for a while and never for ever.
 */
export interface ScratchSpace {
  create(): Promise<ScratchDir>;
}
