import type { Clock } from '../../ports/clock.ts';

/** The figures of client-go. */
const FIRST_MS = 800;
const LONGEST_MS = 30_000;

/** How long to wait before the next try. Full jitter: many processes lose one server at the same moment. */
export class WatchBackoff {
  readonly #clock: Pick<Clock, 'random'>;
  #failures = 0;

  constructor(clock: Pick<Clock, 'random'>) {
    this.#clock = clock;
  }

  /** `notBeforeMs`: the server asked for so much patience; the jitter comes on top. */
  next(notBeforeMs = 0): number {
    const ceilingMs = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#failures);
    this.#failures += 1;
    return notBeforeMs + this.#clock.random() * ceilingMs;
  }

  reset(): void {
    this.#failures = 0;
  }
}
