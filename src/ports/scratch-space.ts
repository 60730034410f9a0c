import { codeOf } from '../domain/error-code.ts';
import { ReconcileError, transient } from '../domain/errors.ts';

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
  /** Throws `CacheUnavailable` (transient) when the disk is full, say, or gone. */
  create(): Promise<ScratchDir>;
}

/** What the system threw over a file in `dir`, which is plugset's own to fill, as the error that it is; else as it came. */
export function cacheFailure(thrown: unknown, dir: string): unknown {
  const code = codeOf(thrown);
  if (thrown instanceof ReconcileError || code === undefined || !/^E[A-Z]+$/.test(code)) return thrown;
  return transient('CacheUnavailable', `the artifact cache in ${dir} cannot be used (${code})`, thrown);
}
