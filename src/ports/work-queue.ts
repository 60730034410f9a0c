import type { WaitCause } from '../domain/wake-up.ts';

/**
 * Priority of what nobody waits for: the first pass after start, resyncs, followers of a moved ref, slow re-probes.
 * Everything else has 0. The number is the one of controller-runtime, so that its dashboards tell the two apart.
 */
export const LOW_PRIORITY = -100;

/** A key that was handed out, and the priority that it had then: what is put back on its account keeps it. */
export interface WorkItem<K extends string> {
  readonly key: K;
  readonly priority: number;
}

/**
 * Queue of keys with the semantics of client-go: a key that is added while it is queued is queued once; one that is added
 * while it is worked on runs again after `done`; so no two workers ever hold one key, and no add is lost.
 *
 * A key waits for at most one thing. A plain `add` overtakes a delay and uses it up; a delay for a key that is ready
 * already is used up by that. The pass that follows decides anew when it wants to be called again.
 */
export interface WorkQueue<K extends string> {
  /**
   * Queues a key (priority 0 when left out). A higher priority goes first, until a lower one has waited so much longer
   * that it is due (aging: nothing starves); within a priority first come, first served. Of several priorities for a
   * queued key the highest counts.
   */
  add(key: K, priority?: number): void;
  /** Queues a key after a delay; of several delays for one key the earliest counts. `cause` is kept for display: default resync. */
  addAfter(key: K, delayMs: number, priority?: number, cause?: WaitCause): void;
  /** Queues a key after its own backoff, which grows with every call until `forget`. */
  addRateLimited(key: K, priority?: number): void;
  /** The next key; waits for one. `undefined` once the queue is shut down. */
  get(): Promise<WorkItem<K> | undefined>;
  /** Ends the work on a key that `get` handed out. */
  done(key: K): void;
  /** Resets the backoff of a key and drops nothing else. */
  forget(key: K): void;
  /** Failures in a row, for backoff and display. */
  retries(key: K): number;
  /** Queued and ready keys, delayed ones not counted. */
  readonly depth: number;
  /** No more keys are accepted or handed out; `get` answers `undefined`. Keys in hand are still to be `done`. Idempotent. */
  shutDown(): void;
}
