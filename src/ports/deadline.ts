import { onAbort, untilAborted } from './abort.ts';
import type { Clock, Timer } from './clock.ts';

/** Why the work on the outside was ended: time was up. */
export class Expired extends Error {
  override readonly name = 'Expired';
  readonly ms: number;

  constructor(ms: number) {
    super(`no answer within ${ms / 1000} s`);
    this.ms = ms;
  }
}

/**
 * A signal that aborts when the caller's does or when time is up, and knows which. For awaits on the outside: whoever
 * is handed `signal` ends the work with it. `clear` when the work has ended, or the timer keeps the process open.
 */
export class Deadline {
  readonly ms: number;
  readonly #parent: AbortSignal;
  readonly #controller = new AbortController();
  readonly #timer: Timer;
  readonly #onAbort = (): void => this.#end('aborted');
  #cause: 'expired' | 'aborted' | undefined;

  constructor(clock: Pick<Clock, 'setTimer'>, ms: number, parent: AbortSignal) {
    this.ms = ms;
    this.#parent = parent;
    this.#timer = clock.setTimer(ms, () => this.#end('expired'));
    if (parent.aborted) this.#end('aborted');
    else parent.addEventListener('abort', this.#onAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Which of the two came first; `undefined` while neither has. */
  get cause(): 'expired' | 'aborted' | undefined {
    return this.#cause;
  }

  /**
   * `work`, or a rejection as soon as the signal aborts. For work that was handed the signal and may still never settle
   * (HTTP clients forget to when a connection ends in the middle of an answer), or that nothing can end.
   */
  race<T>(work: Promise<T>): Promise<T> {
    return untilAborted(work, this.signal);
  }

  /** Calls `listener` once when the signal aborts, at once if it has. */
  onEnd(listener: () => void): void {
    onAbort(this.signal, listener);
  }

  /** Idempotent; after it the signal does not abort any more. */
  clear(): void {
    this.#timer.cancel();
    this.#parent.removeEventListener('abort', this.#onAbort);
  }

  #end(cause: 'expired' | 'aborted'): void {
    this.#cause = cause;
    this.clear();
    this.#controller.abort(cause === 'aborted' ? this.#parent.reason : new Expired(this.ms));
  }
}
