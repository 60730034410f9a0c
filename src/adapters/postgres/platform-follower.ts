import { untilEither } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { keepListening } from './keep-listening.ts';
import { ListenConnection } from './listen-connection.ts';
import type { PostgresDatabase } from './postgres-database.ts';

export interface PlatformFollowerOptions {
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Between two looks, give or take a fifth. */
  readonly intervalMs: number;
  /** Notified by the platform when something has changed; what it says is not read. */
  readonly channel: string | undefined;
  readonly heartbeatMs: number;
  /** Must not reject. */
  readonly look: (signal: AbortSignal) => Promise<void>;
}

/** From a notification to the look, so that one transaction of many notifications is one look. */
const DEBOUNCE_MS = 100;

/** Looks at a platform's tables again and again: by time, and sooner when the platform says so. */
export class PlatformFollower {
  readonly #options: PlatformFollowerOptions;
  #hasStirred = false;
  #wake: () => void = () => {};

  constructor(options: PlatformFollowerOptions) {
    this.#options = options;
  }

  /** Until `signal` aborts. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#keepLooking(signal), this.#keepListening(signal)]);
  }

  async #keepLooking(signal: AbortSignal): Promise<void> {
    const { clock, intervalMs, look } = this.#options;
    let tookMs = 0;
    while (!signal.aborted) {
      await this.#pause(intervalMs * (0.8 + 0.4 * clock.random()), signal);
      // A platform that notifies all the time leaves the database as long in peace as a look takes.
      if (this.#hasStirred) await clock.sleep(Math.max(DEBOUNCE_MS, tookMs), signal).catch(() => undefined);
      if (signal.aborted) return;
      this.#hasStirred = false;
      const startedMs = clock.monotonic();
      await look(signal);
      tookMs = clock.monotonic() - startedMs;
    }
  }

  async #keepListening(signal: AbortSignal): Promise<void> {
    const { database, channel, clock, logger, heartbeatMs } = this.#options;
    if (channel === undefined) return;
    const onNotification = (): void => this.#stir();
    const listen = (stop: AbortSignal): Promise<ListenConnection> =>
      ListenConnection.open({ database, channel, onNotification, clock, heartbeatMs }, stop);
    await keepListening({ listen, onGap: async () => this.#stir(), clock, logger }, undefined, signal);
  }

  #stir(): void {
    this.#hasStirred = true;
    this.#wake();
  }

  /** Until something stirs, at most this long. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#hasStirred) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    const { clock } = this.#options;
    await untilEither(woken.signal, signal, (over) => clock.sleep(ms, over)).catch(() => undefined);
    this.#wake = () => {};
  }
}
