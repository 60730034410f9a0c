import { FakeClock } from './fake-clock.ts';

/** Every pause passes at once, and is remembered; other timers wait for the test. */
export class HastyClock extends FakeClock {
  readonly pauses: number[] = [];

  override sleep(ms: number, signal: AbortSignal): Promise<void> {
    this.pauses.push(ms);
    const slept = super.sleep(ms, signal);
    this.tick(ms);
    return slept;
  }
}
