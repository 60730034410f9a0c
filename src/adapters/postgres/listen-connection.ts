import type pg from 'pg';

import { untilAborted } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { PostgresDatabase } from './postgres-database.ts';

export interface ListenConnectionOptions {
  readonly database: PostgresDatabase;
  /** Lower-case letters, digits, underscores. */
  readonly channel: string;
  readonly onNotification: (payload: string) => void;
  readonly clock: Clock;
  /** Between two questions to a silent server. A dead network says nothing by itself, for hours. */
  readonly heartbeatMs: number;
}

/**
 * One connection that does nothing but LISTEN. It notices when it is dead, and then is dead for good: what was
 * notified meanwhile is lost, so whoever opens the next one has to read everything again.
 */
export class ListenConnection {
  readonly #client: pg.Client;
  readonly #over = new AbortController();

  private constructor(client: pg.Client) {
    this.#client = client;
  }

  /** Resolves once the server listens; rejects with the driver's error, or when `signal` aborts. */
  static async open(options: ListenConnectionOptions, signal: AbortSignal): Promise<ListenConnection> {
    signal.throwIfAborted();
    const client = options.database.dedicatedClient();
    const connection = new ListenConnection(client);
    const end = (): void => connection.end();
    client.on('error', end);
    client.on('end', end);
    client.on('notification', ({ payload }) => options.onNotification(payload ?? ''));
    signal.addEventListener('abort', end, { once: true });
    connection.ended.addEventListener('abort', () => signal.removeEventListener('abort', end), { once: true });
    try {
      const listening = client.connect().then(() => client.query(`listen "${options.channel}"`));
      // The driver never answers whoever ends a connection that is still being made.
      await untilAborted(listening, signal);
    } catch (error) {
      connection.end();
      throw error;
    }
    void connection.#keepAsking(options);
    return connection;
  }

  /** Aborts when the connection is dead or was ended. */
  get ended(): AbortSignal {
    return this.#over.signal;
  }

  /** Idempotent. Cuts the connection also where the server would not answer a goodbye. */
  end(): void {
    if (this.#over.signal.aborted) return;
    this.#over.abort();
    this.#client.end().catch(() => undefined);
    this.#client.connection.stream.destroy();
  }

  /** Never rejects: any failure is the end of the connection, which is what `ended` is for. */
  async #keepAsking({ clock, heartbeatMs }: ListenConnectionOptions): Promise<void> {
    try {
      for (;;) {
        await clock.sleep(heartbeatMs, this.ended);
        await this.#client.query('select 1');
      }
    } catch {
      this.end();
    }
  }
}
