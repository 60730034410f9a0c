import type { Fence } from '../domain/fence.ts';

/** One turn of this process as the one that acts. */
export interface Term {
  readonly fence: Fence;
  /** Aborts as soon as the turn may be over: the lease was lost, could not be renewed in time, or was released. */
  readonly signal: AbortSignal;
  /** Gives the lease back at once, so that the next one need not wait for it to run out. Idempotent. */
  release(): Promise<void>;
}

/** Who acts or last acted on a store, as far as the store can tell: a frozen process holds its lease until it runs out. */
export type LeaseHolder = {
  readonly name: string;
  /** ISO time at which its turn began. */
  readonly since: string;
} & (
  | { readonly isLeading: true }
  /** `until`: ISO time at which its turn ended or ran out; of one that died, give or take the time between two renewals. */
  | { readonly isLeading: false; readonly until: string }
);

/**
 * Decides which of several processes on one store acts. A lease is no mutual exclusion (a frozen process outlives it):
 * the fence on the target is. It rises with every turn, by its number or by its epoch, and never falls, not even when the
 * store was restored from a backup.
 */
export interface Leadership {
  /**
   * Waits until this process may act, however long that takes, telling `onWaiting` who holds the lease each time
   * that changes, and `onUnable` why it cannot even ask, each time, and `undefined` once it can again. Rejects only when
   * `signal` aborts. The caller campaigns again after a lost term.
   */
  acquire(
    signal: AbortSignal,
    onWaiting?: (holder: string) => void,
    onUnable?: (why: string | undefined) => void,
  ): Promise<Term>;

  /**
   * For people: the newest holder, whether its turn is over or not; `undefined` where nobody has ever led. Needs no lease and
   * takes none. Throws `StoreUnavailable` when the store cannot answer.
   */
  lastHolder(signal: AbortSignal): Promise<LeaseHolder | undefined>;
}
