import { parseWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { whenAborted } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { WatchCause } from '../../ports/workspace-store.ts';
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

const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 10_000;

/**
 * Names the keys that changed, by three means, each of which heals what the one before it lost:
 *
 * 1. LISTEN: within milliseconds. A notification is lost with the connection; after a new one was made, every key is named.
 * 2. The poll of what is due: a change is written with a number (`dirty`), a status with the number it speaks of. Heals
 *    a notification that was lost on a connection that seemed well.
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
    const { pollMs, fullScanMs } = this.#options;
    const running = Promise.all([
      this.#keepListening(first, signal),
      this.#every(pollMs, signal, () => this.#nameDue(signal)),
      this.#every(fullScanMs, signal, () => this.#nameAll(signal)),
    ]);
    return { running: running.then(() => undefined) };
  }

  async #keepListening(first: ListenConnection, signal: AbortSignal): Promise<void> {
    let connection = first;
    for (let failures = 0; ;) {
      await whenAborted(connection.ended);
      if (signal.aborted) return;
      await this.#pause(Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** failures), signal);
      try {
        connection = await this.#listen(signal);
        // Only now, when nothing more can be missed, a look at everything closes the gap.
        await this.#nameAll(signal);
        if (failures > 0) this.#options.logger.info('listening to the database again');
        failures = 0;
      } catch (error) {
        connection.end();
        if (failures === 0 && !signal.aborted)
          this.#options.logger.warn('the database is not heard; trying again', { error });
        failures += 1;
      }
    }
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
      await this.#pause(intervalMs, signal);
      if (signal.aborted) return;
      await round().catch((error: unknown) => this.#options.logger.debug('a look for changes failed', { error }));
    }
  }

  /** Half to one and a half times as long, so that many processes do not ask in step. Ends early with the signal. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    await clock.sleep(ms * (0.5 + clock.random()), signal).catch(() => undefined);
  }
}
