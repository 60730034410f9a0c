/**
 * Queue of keys with the semantics of client-go: a key that is added while it is queued is queued once; one that is added
 * while it is worked on runs again after `done`; so no two workers ever hold one key, and no add is lost.
 */
export interface WorkQueue<K extends string> {
  /** Queues a key. Higher priority wins over a queued lower one; within a priority first come, first served. */
  add(key: K, priority?: number): void;
  /** Queues a key after a delay; of several delays for one key the earliest counts. */
  addAfter(key: K, delayMs: number, priority?: number): void;
  /** Queues a key after its own backoff, which grows with every call until `forget`. */
  addRateLimited(key: K): void;
  /** The next key, or `undefined` once the queue is shut down and empty (drain: also once nothing is in hand). */
  get(): Promise<K | undefined>;
  /** Ends the work on a key that `get` handed out. */
  done(key: K): void;
  /** Resets the backoff of a key and drops nothing else. */
  forget(key: K): void;
  /** Failures in a row, for backoff and display. */
  retries(key: K): number;
  /** Queued and ready keys, delayed ones not counted. */
  readonly depth: number;
  /** No more keys are accepted or handed out; `get` answers `undefined`. */
  shutDown(): void;
}
