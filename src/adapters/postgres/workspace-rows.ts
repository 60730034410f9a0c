import { aborted } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { splitWorkspaceKey, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { FleetPolicy, Workspace } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause } from '../../ports/workspace-store.ts';
import { ChangeFeed, type DueChange } from './change-feed.ts';
import type { PostgresDatabase, PreparedStatement } from './postgres-database.ts';
import { turnOf } from './stale-turn.ts';
import { loadedFrom, type RowNames, type WorkspaceRow } from './workspace-row.ts';

/** Where declarations stand, in SQL, and what their rows are called. Statuses stand in one place for all of them. */
export interface DeclarationTables {
  /** Of the prepared statement that reads one. */
  readonly statementName: string;
  /** Selects namespace, name and dirty of everything declared, tombstones included. */
  readonly declared: string;
  /** Selects the one of this namespace and name (expressions) as a {@link WorkspaceRow} without its status. */
  readonly one: (namespace: string, name: string) => string;
  /** Table and condition of tombstones; another condition is added with `and`. */
  readonly tombstones: string;
  /** The same of what is declared now. */
  readonly living: string;
  readonly names: RowNames;
}

export interface WorkspaceRowsOptions {
  /** Shared with other users of the database; whoever opened it closes it, after the store. */
  readonly database: PostgresDatabase;
  readonly tables: DeclarationTables;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What applies where a workspace's own policy says nothing; asked each time, for it can be configured anew. */
  readonly defaultPolicy: () => FleetPolicy;
  /** Between two looks for changes whose notification was lost; ±50 %. Default 5 s. */
  readonly pollMs?: number | undefined;
  /** Between two full scans, which name every key; ±50 %. Default 10 min. */
  readonly fullScanMs?: number | undefined;
  /** Between two questions on the listening connection, to notice that it is dead. Default 15 s. */
  readonly heartbeatMs?: number | undefined;
}

/** Reads declarations that stand in rows, follows their changes, and keeps their statuses. */
export class WorkspaceRows {
  readonly #options: WorkspaceRowsOptions;
  readonly #database: PostgresDatabase;
  readonly #sql: Statements;
  readonly #closing = new AbortController();
  readonly #feeds = new Set<Promise<void>>();
  /** By key, the number of the change that the last `get` handed out; a status speaks of that one. */
  readonly #seen = new Map<WorkspaceKey, number>();

  constructor(options: WorkspaceRowsOptions) {
    this.#options = options;
    this.#database = options.database;
    this.#sql = statementsOver(options.tables);
  }

  /** Aborts when this is closed. */
  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    const rows = await this.#database.query<{ namespace: string; name: string }>(this.#sql.list, [], signal);
    return rows.map((row) => workspaceKey(row.namespace, row.name));
  }

  /** `newer`: what is known of the row that does not stand there yet. */
  async get(key: WorkspaceKey, signal: AbortSignal, newer?: NewerRow): Promise<Loaded> {
    const [stored] = await this.#database.query<WorkspaceRow>(this.#sql.get, keyValues(key), signal);
    const row = newer === undefined ? stored : { ...BLANK, ...stored, ...newer };
    if (row === undefined) {
      this.#seen.delete(key);
      return { kind: 'absent' };
    }
    this.#seen.set(key, row.dirty);
    return loadedFrom(key, row, this.#options.defaultPolicy(), this.#options.tables.names);
  }

  /** `newer`: as for `get`. */
  async declarations(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
    newer: ReadonlyMap<WorkspaceKey, NewerRow> = new Map(),
  ): Promise<ReadonlyMap<WorkspaceKey, Workspace | undefined>> {
    const values = [keys.map((key) => keyValues(key)[0]), keys.map((key) => keyValues(key)[1])];
    const rows = await this.#database.query<KeyedRow>(this.#sql.declarations, values, signal);
    const stored = rows.map((row) => [workspaceKey(row.namespace, row.name), { ...row, ...NO_STATUS }] as const);
    const read = keys.flatMap((key) => {
      const row = newer.get(key);
      return row === undefined ? [] : [[key, { ...BLANK, ...row }] as const];
    });
    const { defaultPolicy, tables } = this.#options;
    return new Map(
      [...stored, ...read].map(([key, row]) => {
        const loaded = loadedFrom(key, row, defaultPolicy(), tables.names);
        return [key, loaded.kind === 'found' ? loaded.workspace : undefined];
      }),
    );
  }

  async watch(onKey: (key: WorkspaceKey, cause: WatchCause) => void, signal: AbortSignal): Promise<void> {
    const { database, clock, logger, pollMs = 5000, fullScanMs = 600_000, heartbeatMs = 15_000 } = this.#options;
    const feed = new ChangeFeed({
      database,
      clock,
      logger,
      onKey,
      isSeen: ({ key, dirty }) => this.#seen.get(key) === dirty,
      listDue: (stop) => this.#listDue(stop),
      listAll: (stop) => this.list(stop),
      pollMs,
      fullScanMs,
      heartbeatMs,
    });
    const { running } = await feed.start(AbortSignal.any([signal, this.#closing.signal]));
    this.keep(running);
  }

  /** Waits at the end for what goes on until then; it must not reject. */
  keep(running: Promise<void>): void {
    this.#feeds.add(running);
    void running.finally(() => this.#feeds.delete(running));
  }

  async writeStatus({ key, status, fence }: StatusWrite, signal: AbortSignal): Promise<void> {
    const values = [...keyValues(key), fence.epoch, fence.n, storableJson(status), this.#seen.get(key) ?? null];
    const [row] = await this.#database.query<{ is_stale: boolean }>(this.#sql.writeStatus, values, signal);
    refuseStale(row, `the status of ${key}`);
  }

  async finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    const values = [...keyValues(key), fence.epoch, fence.n];
    const [row] = await this.#database.query<{ is_stale: boolean }>(this.#sql.finishDeletion, values, signal);
    refuseStale(row, `the status of ${key}`);
    this.#seen.delete(key);
  }

  async close(): Promise<void> {
    this.#closing.abort(aborted('the store was closed'));
    await Promise.all(this.#feeds);
  }

  async #listDue(signal: AbortSignal): Promise<readonly DueChange[]> {
    const rows = await this.#database.query<{ namespace: string; name: string; dirty: number }>(
      this.#sql.listDue,
      [],
      signal,
    );
    return rows.map((row) => ({ key: workspaceKey(row.namespace, row.name), dirty: row.dirty }));
  }
}

/** What was read of a declaration and is not recorded. */
export type NewerRow = Pick<WorkspaceRow, 'manifest' | 'problems' | 'generation' | 'declared_at_ms' | 'deleting'>;

type KeyedRow = Omit<WorkspaceRow, 'status' | 'handled'> & { readonly namespace: string; readonly name: string };

const NO_STATUS: Pick<WorkspaceRow, 'status' | 'handled'> = { status: null, handled: null };
const BLANK: Pick<WorkspaceRow, 'dirty' | 'status' | 'handled'> = { dirty: 0, ...NO_STATUS };

interface Statements {
  readonly list: string;
  readonly listDue: string;
  readonly get: PreparedStatement;
  readonly declarations: string;
  readonly writeStatus: string;
  readonly finishDeletion: string;
}

function statementsOver({ statementName, declared, one, tombstones, living }: DeclarationTables): Statements {
  return {
    list: `select namespace, name from (${declared}) declared`,
    listDue: `
      select namespace, name, dirty::float8
        from (${declared}) declared
        left join plugset.workspace_status s using (namespace, name)
       where declared.dirty > coalesce(s.handled, 0)`,
    get: {
      name: statementName,
      text: `
        select found.*, s.status, s.handled::float8
          from (${one('$1', '$2')}) found
          left join plugset.workspace_status s using (namespace, name)`,
    },
    declarations: `
      select found.*
        from unnest($1::text[], $2::text[]) wanted (wanted_namespace, wanted_name),
             lateral (${one('wanted_namespace', 'wanted_name')}) found`,
    writeStatus: `
      with ${turnOf('$3', '$4')}, written as (
        insert into plugset.workspace_status as s (namespace, name, fence_epoch, fence_n, status, handled)
        select $1, $2, $3, $4, $5::jsonb, coalesce($6::bigint, 0)
          from turn
         where not turn.is_stale
           and exists (select from (${declared}) declared where declared.namespace = $1 and declared.name = $2)
        on conflict (namespace, name) do update
          set fence_epoch = excluded.fence_epoch, fence_n = excluded.fence_n, status = excluded.status,
              handled = coalesce($6::bigint, s.handled), updated_at = clock_timestamp()
          where (s.fence_epoch, s.fence_n) <= (excluded.fence_epoch, excluded.fence_n))
      select is_stale from turn`,
    finishDeletion: `
      with ${turnOf('$3', '$4')}, buried as (
        delete from ${tombstones} and namespace = $1 and name = $2 and not (select is_stale from turn)
      ), forgotten as (
        delete from plugset.workspace_status
         where namespace = $1 and name = $2 and not (select is_stale from turn)
           and not exists (select from ${living} and namespace = $1 and name = $2)
      )
      select is_stale from turn`,
  };
}

export function keyValues(key: WorkspaceKey): readonly [string, string] {
  const { namespace, name } = splitWorkspaceKey(key);
  return [namespace, name];
}

export function refuseStale(row: { is_stale: boolean } | undefined, what: string): void {
  if (row?.is_stale !== true) return;
  throw aborted(`${what} was not written: another process leads since a newer turn`);
}

/** jsonb cannot hold U+0000 or half a surrogate pair, and what a target prints may have either. */
function storableJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'string' ? Buffer.from(inner).toString().replaceAll('\0', '\uFFFD') : inner,
  );
}
