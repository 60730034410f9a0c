/** The only way to time. A fake one makes queue, backoff and resync tests instant and exact. */
export interface Clock {
  /** Wall clock, Unix milliseconds: for stamps that people or other machines read. May jump. */
  now(): number;
  /** Monotonic milliseconds from an arbitrary start: for every duration and deadline. */
  monotonic(): number;
  /** Runs `callback` once after `delayMs` (0 or more). The callback must not throw or return a promise. */
  setTimer(delayMs: number, callback: () => void): Timer;
  /** Resolves after `delayMs`, or rejects with the reason of `signal` as soon as that aborts. */
  sleep(delayMs: number, signal: AbortSignal): Promise<void>;
  /** Uniform in [0, 1): the source of every jitter. */
  random(): number;
}

export interface Timer {
  /** Idempotent; after it the callback does not run. */
  cancel(): void;
}
