import { SystemClock } from '../../src/adapters/system/clock.ts';

/** The clock of the machine, on which a test lets time go by at once. Timers that are set take as long as ever. */
export class LeapingClock extends SystemClock {
  #leaptMs = 0;

  override now(): number {
    return super.now() + this.#leaptMs;
  }

  override monotonic(): number {
    return super.monotonic() + this.#leaptMs;
  }

  leap(ms: number): void {
    this.#leaptMs += ms;
  }
}
