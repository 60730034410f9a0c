import type { Clock } from '../ports/clock.ts';

export interface BackoffOptions {
  /** Ceiling of the first delay; it doubles with every further failure. Default 1 s. */
  readonly baseMs?: number;
  /** Ceiling of every delay. Default 5 min: whoever repaired the cause must not wait much longer than that. */
  readonly maxMs?: number;
}

/**
 * Failures in a row per key, and how long to wait after the newest. Full jitter: the delay is uniform between nothing and
 * the ceiling, so that keys which failed together for one cause do not come back together.
 */
export class Backoff<K> {
  readonly #failures = new Map<K, number>();
  readonly #clock: Pick<Clock, 'random'>;
  readonly #baseMs: number;
  readonly #maxMs: number;

  constructor(clock: Pick<Clock, 'random'>, options: BackoffOptions = {}) {
    this.#clock = clock;
    this.#baseMs = options.baseMs ?? 1_000;
    this.#maxMs = options.maxMs ?? 300_000;
  }

  /** Counts one more failure and draws the delay that follows it. */
  next(key: K): number {
    const failures = this.failures(key);
    this.#failures.set(key, failures + 1);
    return this.#clock.random() * Math.min(this.#maxMs, this.#baseMs * 2 ** failures);
  }

  failures(key: K): number {
    return this.#failures.get(key) ?? 0;
  }

  /** Starts the key over; it takes no memory any more. */
  forget(key: K): void {
    this.#failures.delete(key);
  }

  get size(): number {
    return this.#failures.size;
  }
}
