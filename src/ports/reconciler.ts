import type { ReconcileError } from '../domain/errors.ts';
import type { WaitCause } from '../domain/wake-up.ts';

/** What a pass that got through wants next. */
export interface ReconcileResult {
  /**
   * Call me again after so long, at low priority (a periodic look must not stand before an edit), unless something wakes
   * the key sooner. Left out: only when something wakes it.
   */
  readonly requeueAfterMs?: number | undefined;
  /** What that is for. Default: the periodic look. */
  readonly requeueFor?: WaitCause;
  /**
   * Something in the pass failed and did not stop it. Counted as an error and tried again as its class says, at the
   * latest after `requeueAfterMs`. The pass itself has told people about it.
   */
  readonly failure?: ReconcileError | undefined;
}

/**
 * One pass over one key. It reads everything anew: why it was called is not known, and must not matter.
 *
 * Resolving without a `failure` forgets the backoff of the key. What is thrown decides what comes next (see
 * `ErrorClass`); anything but a `ReconcileError` is taken for a fault of ours. `signal` aborts when the pass took too
 * long or the process must stop acting; the pass then ends its outside work and throws, and nothing it learnt is believed.
 */
export type Reconcile<K extends string> = (key: K, signal: AbortSignal) => Promise<ReconcileResult>;
