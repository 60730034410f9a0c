import type { Clock } from '../ports/clock.ts';
import { LOW_PRIORITY, type WorkQueue } from '../ports/work-queue.ts';
import type { Loop } from './supervisor.ts';

export interface ResyncOptions<K extends string> {
  /** Every key there is. Rejects when it cannot tell, and never answers with a part. */
  readonly list: (signal: AbortSignal) => Promise<readonly K[]>;
  readonly queue: Pick<WorkQueue<K>, 'addAfter'>;
  readonly clock: Clock;
  /** Each key is woken once in every such interval, at a time of its own. Default 30 min. */
  readonly intervalMs?: number;
  /** Pace of the first round after a start, keys per second, so that a restart is no storm. Default 20. */
  readonly firstPassPerSecond?: number;
}

/** How long a list may take before the loop counts as stalled. */
const LIST_TIMEOUT_MS = 120_000;

/**
 * Wakes every key from time to time, at low priority, whatever events may have been lost. Keys are listed anew for every
 * round, so those that are gone drop out. Runs until its signal aborts; rejects when the list fails.
 */
export class Resync<K extends string> implements Loop {
  readonly name = 'resync';
  readonly stallAfterMs: number;
  readonly #list: ResyncOptions<K>['list'];
  readonly #queue: ResyncOptions<K>['queue'];
  readonly #clock: Clock;
  readonly #intervalMs: number;
  readonly #firstPassPerSecond: number;
  #isFirstRound = true;

  constructor(options: ResyncOptions<K>) {
    this.#list = options.list;
    this.#queue = options.queue;
    this.#clock = options.clock;
    this.#intervalMs = options.intervalMs ?? 1_800_000;
    this.#firstPassPerSecond = options.firstPassPerSecond ?? 20;
    this.stallAfterMs = this.#intervalMs + LIST_TIMEOUT_MS;
  }

  async run(signal: AbortSignal, progress: () => void): Promise<void> {
    for (;;) {
      const keys = await this.#list(signal);
      signal.throwIfAborted();
      const windowMs = this.#windowMs(keys.length);
      // Each at a random time of the window: a fixed order would make the same neighbours meet on one engine each round.
      for (const key of keys) this.#queue.addAfter(key, this.#clock.random() * windowMs, LOW_PRIORITY);
      this.#isFirstRound = false;
      progress();
      await this.#clock.sleep(this.#intervalMs, signal);
    }
  }

  #windowMs(keys: number): number {
    if (!this.#isFirstRound) return this.#intervalMs;
    return Math.min(this.#intervalMs, (keys / this.#firstPassPerSecond) * 1000);
  }
}
