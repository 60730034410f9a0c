import pg from 'pg';

import { aborted, transient, type ReconcileError } from '../../domain/errors.ts';
import { untilAborted } from '../../ports/abort.ts';
import type { Logger } from '../../ports/logger.ts';
import { readAddress, type PostgresAddress } from './postgres-address.ts';
import { classifyPostgresError, faultOf } from './postgres-fault.ts';

export interface PostgresDatabaseOptions {
  /**
   * `postgres://user:password@host:port/database`. A secret: it appears in no error and no log line. Needs a direct
   * connection; a pooler in transaction mode loses LISTEN and the time-outs of the session.
   */
  readonly connectionString: string;
  /** The option or variable that the connection string came from, for messages. */
  readonly origin?: string | undefined;
  readonly logger: Logger;
  /** Connections at most. Default 5. */
  readonly poolSize?: number;
  /** Until a connection is made, or one of the pool is free. Default 5 s. */
  readonly connectTimeoutMs?: number;
  /** The server gives a statement up after this; the client a second later, if the server is silent. Default 10 s. */
  readonly statementTimeoutMs?: number;
  /** What pg_stat_activity shows. Default `plugset`. */
  readonly applicationName?: string;
}

/**
 * A statement that every connection has planned once, under its name: for what every pass runs. Only for look-ups by key:
 * a plan made while a table was small stands until the next ANALYZE.
 */
export interface PreparedStatement {
  readonly name: string;
  readonly text: string;
}

/** One statement on one connection; inside a transaction, the next one of it. */
export type Query = <Row extends pg.QueryResultRow>(
  text: string,
  values?: readonly unknown[],
) => Promise<readonly Row[]>;

/** Names of the columns that a query would answer with. It is one statement for certain, and is not run. */
export type ColumnsOf = (text: string) => Promise<readonly string[]>;

/**
 * A small pool of connections to one database. Every call ends in time, ends when its signal aborts, and throws only
 * ReconcileErrors: `StoreUnavailable` (transient) and aborted.
 */
export class PostgresDatabase {
  readonly #address: PostgresAddress;
  readonly #config: pg.ClientConfig;
  readonly #statementTimeoutMs: number;
  readonly #pool: pg.Pool;
  #closing: Promise<void> | undefined;

  constructor(options: PostgresDatabaseOptions) {
    this.#address = readAddress(options.connectionString, options.origin);
    this.#statementTimeoutMs = options.statementTimeoutMs ?? 10_000;
    this.#config = {
      connectionString: options.connectionString,
      application_name: options.applicationName ?? 'plugset',
      connectionTimeoutMillis: options.connectTimeoutMs ?? 5000,
      statement_timeout: this.#statementTimeoutMs,
      query_timeout: this.#statementTimeoutMs + 1000,
      idle_in_transaction_session_timeout: this.#statementTimeoutMs + 1000,
      keepAlive: true,
    };
    this.#pool = new pg.Pool({ ...this.#config, max: options.poolSize ?? 5 });
    // Without a listener the loss of an idle connection ends the process.
    this.#pool.on('error', (error) => {
      options.logger.debug('an idle database connection was lost', { error: faultOf(error, this.#address.secrets) });
    });
  }

  /** `database plugset at db.example.com:5432 (DATABASE_URL)`, for messages: holds no secret. */
  get place(): string {
    return this.#address.place;
  }

  /** What a failure on a connection to this database means; also of one outside the pool. */
  classify(thrown: unknown, signal: AbortSignal): ReconcileError {
    return classifyPostgresError(thrown, this.#address, signal);
  }

  /** One statement in a transaction of its own. */
  async query<Row extends pg.QueryResultRow>(
    statement: string | PreparedStatement,
    values: readonly unknown[],
    signal: AbortSignal,
  ): Promise<readonly Row[]> {
    const config = typeof statement === 'string' ? { text: statement } : statement;
    return this.#borrow(signal, async (client) => (await client.query<Row>({ ...config, values: [...values] })).rows);
  }

  /** Runs `work` in one transaction. Whatever it throws rolls back. `timeoutMs` replaces the time-out per statement. */
  async transaction<T>(
    work: (query: Query, columnsOf: ColumnsOf) => Promise<T>,
    signal: AbortSignal,
    timeoutMs = this.#statementTimeoutMs,
  ): Promise<T> {
    return this.#borrow(signal, async (client) => {
      const query: Query = async <Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => {
        const config = {
          text,
          query_timeout: timeoutMs + 1000,
          ...(values === undefined ? {} : { values: [...values] }),
        };
        return (await client.query<Row>(config)).rows;
      };
      const columnsOf: ColumnsOf = async (text) => {
        // A text with values goes through a protocol that refuses several statements.
        const probe = { text: `select * from (\n${text}\n) q limit $1`, values: [0], query_timeout: timeoutMs + 1000 };
        return (await client.query(probe)).fields.map(({ name }) => name);
      };
      await query(`begin; set local statement_timeout = ${Math.ceil(timeoutMs)}`);
      try {
        const result = await work(query, columnsOf);
        await query('commit');
        return result;
      } catch (error) {
        // A connection that did not answer is dropped, and the server rolls back by itself.
        if (faultOf(error).answered) await query('rollback');
        throw error;
      }
    });
  }

  /** A connection outside the pool, for LISTEN. The caller ends it, and listens to `error` from the start. */
  dedicatedClient(): pg.Client {
    return new pg.Client(this.#config);
  }

  /** Waits for what is under way. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#pool.end());
  }

  async #borrow<T>(signal: AbortSignal, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#connect(signal);
    // A borrowed client is not covered by the pool's listener; what it has to say also fails the query.
    client.on('error', ignore);
    let isReturned = false;
    const giveBack = (isUsable: boolean): void => {
      if (isReturned) return;
      isReturned = true;
      client.release(!isUsable);
      client.off('error', ignore);
    };
    // The pool cuts the connection of a client that is given back broken in the middle of a query, which ends the query.
    const onAbort = (): void => giveBack(false);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const result = await work(client);
      giveBack(true);
      return result;
    } catch (error) {
      giveBack(faultOf(error).answered);
      throw this.classify(error, signal);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  async #connect(signal: AbortSignal): Promise<pg.PoolClient> {
    if (signal.aborted) throw aborted('the call to the database was cut short', signal.reason);
    if (this.#closing !== undefined) throw transient('StoreUnavailable', `${this.place}: this process has closed it`);
    const connecting = this.#pool.connect();
    try {
      return await untilAborted(connecting, signal);
    } catch (error) {
      // Ends by its own time-out at the latest; a client that still comes goes back to the pool.
      connecting.then((client) => client.release()).catch(() => undefined);
      throw this.classify(error, signal);
    }
  }
}

function ignore(): void {}
