import { parseWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { WatchCause } from '../../ports/workspace-store.ts';
import { keepListening, pause } from './keep-listening.ts';
import { ListenConnection } from './listen-connection.ts';
import type { PostgresDatabase } from './postgres-database.ts';

/** A change that no status speaks of yet. */
export interface DueChange {
  readonly key: WorkspaceKey;
  readonly dirty: number;
}

export interface ChangeFeedOptions {
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onKey: (key: WorkspaceKey, cause: WatchCause) => void;
  /** Whether a pass has read this very change already. */
  readonly isSeen: (change: DueChange) => boolean;
  readonly listDue: (signal: AbortSignal) => Promise<readonly DueChange[]>;
  readonly listAll: (signal: AbortSignal) => Promise<readonly WorkspaceKey[]>;
  readonly heartbeatMs: number;
  readonly pollMs: number;
  readonly fullScanMs: number;
}

/**
 * Names the keys that changed, by three means, each of which heals what the one before it lost:
 *
 * 1. LISTEN: within milliseconds. A notification is lost with the connection; after a new one was made, every key is named.
 * 2. The poll of what is due: a change is written with a number (`dirty`), a status with the number it speaks of. Heals
 *    a notification that was lost on a connection that seemed well. The first one names what was changed while nobody
 *    listened: before anybody has read it, or it would count as seen and wait for its turn in a whole fleet.
 * 3. The full scan: names every key. Heals what plugset itself forgot.
 */
export class ChangeFeed {
  readonly #options: ChangeFeedOptions;
  /** The change of a key that was named last, as long as it is due; so that the poll does not name it again. */
  #named = new Map<WorkspaceKey, number>();

  constructor(options: ChangeFeedOptions) {
    this.#options = options;
  }

  /**
   * Resolves once changes from now on are named; the returned promise of the running feed settles after `signal`
   * aborted, and never rejects. Throws `StoreUnavailable` when the first connection cannot be made.
   */
  async start(signal: AbortSignal): Promise<{ readonly running: Promise<void> }> {
    let first: ListenConnection;
    try {
      first = await this.#listen(signal);
    } catch (error) {
      throw this.#options.database.classify(error, signal);
    }
    const { clock, logger, pollMs, fullScanMs } = this.#options;
    const listen = (stop: AbortSignal): Promise<ListenConnection> => this.#listen(stop);
    const onGap = (stop: AbortSignal): Promise<void> => this.#nameAll(stop);
    await this.#nameDue(signal).catch((error: unknown) => logger.debug('a look for changes failed', { error }));
    const running = Promise.all([
      keepListening({ listen, onGap, clock, logger }, first, signal),
      this.#every(pollMs, signal, () => this.#nameDue(signal)),
      this.#every(fullScanMs, signal, () => this.#nameAll(signal)),
    ]);
    return { running: running.then(() => undefined) };
  }

  #listen(signal: AbortSignal): Promise<ListenConnection> {
    const { database, clock, heartbeatMs } = this.#options;
    const onNotification = (payload: string): void => this.#nameNotified(payload, signal);
    return ListenConnection.open({ database, channel: 'plugset', onNotification, clock, heartbeatMs }, signal);
  }

  /** The payload is `namespace/name dirty`. Anybody may notify this channel: anything else is passed over. */
  #nameNotified(payload: string, signal: AbortSignal): void {
    const [text = '', dirty] = payload.split(' ');
    const key = parseWorkspaceKey(text);
    if (key === undefined || signal.aborted) return;
    this.#named.set(key, Number(dirty));
    this.#options.onKey(key, 'edit');
  }

  async #nameDue(signal: AbortSignal): Promise<void> {
    const due = await this.#options.listDue(signal);
    const before = this.#named;
    this.#named = new Map(due.map(({ key, dirty }) => [key, dirty]));
    for (const change of due) {
      if (before.get(change.key) !== change.dirty && !this.#options.isSeen(change))
        this.#options.onKey(change.key, 'edit');
    }
  }

  async #nameAll(signal: AbortSignal): Promise<void> {
    for (const key of await this.#options.listAll(signal)) this.#options.onKey(key, 'relist');
  }

  /** A failed round is passed over: the next one, or the new connection, makes up for it. */
  async #every(intervalMs: number, signal: AbortSignal, round: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#options.clock, intervalMs, signal);
      if (signal.aborted) return;
      await round().catch((error: unknown) => this.#options.logger.debug('a look for changes failed', { error }));
    }
  }
}
