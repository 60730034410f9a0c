/** A small document and the version it had when it was read. */
export interface StateDocument {
  readonly value: unknown;
  /** Opaque; only equality means anything. */
  readonly version: string;
}

/**
 * What the controller itself must remember across restarts (`domain/state-key.ts`): small JSON documents with
 * compare-and-swap. Keys obey `^[a-z0-9][a-z0-9._-]{0,127}(/[a-z0-9][a-z0-9._-]{0,127}){0,3}$`; documents are at most 256 KiB.
 * Errors: `StoreUnavailable` (transient; waiting where the store says when to come back); a key or document outside these
 * limits is `Internal` (terminal).
 */
export interface ControllerState {
  /** `undefined` when there is no such document. */
  get(key: string, signal: AbortSignal): Promise<StateDocument | undefined>;
  /**
   * Writes `value` if the document still has the version `expected` (`undefined`: does not exist yet).
   * Returns the new version, or `undefined` when somebody was faster: read again and decide anew.
   */
  compareAndSwap(
    key: string,
    expected: string | undefined,
    value: unknown,
    signal: AbortSignal,
  ): Promise<string | undefined>;
  /** Keys of all documents whose first name is `folder` and that have more names, in no order. */
  list(folder: string, signal: AbortSignal): Promise<readonly string[]>;
  /** Removes the document if it still has that version; `false` when somebody was faster or it is gone. */
  remove(key: string, expected: string, signal: AbortSignal): Promise<boolean>;
}
