import { setTimeout as pause } from 'node:timers/promises';

import { FakeClock } from './fake-clock.ts';

const STEP_MS = 10;

/**
 * A clock that a test drives beside real things: it goes as fast as theirs, or slower on a busy machine, until `hurry`
 * lets minutes go by in seconds.
 */
export class PacedClock extends FakeClock {
  #pace = 1;
  readonly #stop = new AbortController();
  #driving: Promise<void> = Promise.resolve();

  constructor() {
    super({ startMs: Date.now() });
    this.#driving = this.#drive();
  }

  /** Resolves when so much time has gone by, most of it far faster than it does outside. */
  async hurry(ms: number, pace = 60): Promise<void> {
    this.#pace = pace;
    await this.sleep(ms, this.#stop.signal);
    this.#pace = 1;
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('the clock has been stopped'));
    await this.#driving;
  }

  async #drive(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      await pause(STEP_MS);
      await this.advance(STEP_MS * this.#pace);
    }
  }
}
