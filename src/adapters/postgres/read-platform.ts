import { classifyError, terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import { workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { checkColumns, QUERY_SETTING, type PlatformQueries } from './platform-columns.ts';
import type { PlatformRows } from './platform-declaration.ts';
import { differencesSql } from './platform-differences.ts';
import type { ColumnsOf, PostgresDatabase, Query } from './postgres-database.ts';
import { PostgresFault } from './postgres-fault.ts';

export interface ReadPlatformOptions {
  readonly database: PostgresDatabase;
  readonly queries: PlatformQueries;
  /** No workspace at all, or no plugin at all, counts even where several had some before. */
  readonly allowEmpty: boolean;
}

/** How one key differs from what is recorded of it. */
export type Difference = Changed | Missing;

export interface Changed extends PlatformRows {
  readonly kind: 'changed';
  readonly platformId: string | null;
  readonly recorded: Recorded | undefined;
}

export interface Recorded {
  readonly generation: number;
  readonly digest: string;
  readonly declaredAtMs: number;
  readonly isDeleted: boolean;
}

/** Recorded as declared, and not among the rows. */
export interface Missing {
  readonly kind: 'missing';
  readonly key: WorkspaceKey;
  /** Its id is on a row of another name. */
  readonly isRenamed: boolean;
}

export interface PlatformTotals {
  readonly workspaces: number;
  /** Rows without a usable name and without a usable id: nobody can say which workspace they mean. */
  readonly nameless: number;
  /** Rows of plugset's own table, which nobody reads in this mode. */
  readonly unread: number;
}

const BATCH = 500;
const TIMEOUT_MS = 60_000;

/**
 * Reads the platform's tables once, at one moment, without a right to write anywhere, and hands over what differs from
 * the records, in batches, so that a first read of a large fleet is never in memory at once. Throws `StoreUnavailable`
 * when what was read cannot be the whole: a column is missing; of several workspaces none is left; several have lost all their
 * plugins and no workspace has any; not one plugin names a workspace that there is. Batches that were handed over before the
 * error are true, and may be kept.
 */
export async function readPlatform(
  { database, queries: written, allowEmpty }: ReadPlatformOptions,
  onBatch: (batch: readonly Difference[]) => Promise<void>,
  signal: AbortSignal,
): Promise<PlatformTotals> {
  // As people end a query; it becomes a part of another.
  const bare = (text: string): string => text.replace(/;\s*$/, '');
  const queries = { workspaces: bare(written.workspaces), plugins: bare(written.plugins) };
  let asking: keyof PlatformQueries | 'both' | undefined;
  const work = async (query: Query, columnsOf: ColumnsOf): Promise<PlatformTotals> => {
    await query(
      'set transaction isolation level repeatable read, read only; set local jit = off; set local lock_timeout = 10000',
    );
    await query(WITHOUT_OURS);
    asking = 'workspaces';
    const workspaces = await columnsOf(queries.workspaces);
    asking = 'plugins';
    const plugins = await columnsOf(queries.plugins);
    asking = undefined;
    const columns = checkColumns(workspaces, plugins);
    asking = 'both';
    await query(`declare differences no scroll cursor for ${differencesSql(queries, columns)}`);
    const next = (): Promise<readonly DifferenceRow[]> => query(`fetch ${BATCH} from differences`);
    let rows = await next();
    const [totals] = rows;
    if (totals === undefined) throw terminal('Internal', 'the read of the platform gave no totals');
    refuseDoubtful(totals, allowEmpty);
    while (rows.length > 0) {
      const batch = rows.flatMap((row) => differenceFrom(row, columns.joinsById));
      asking = undefined;
      if (batch.length > 0) await onBatch(batch);
      asking = 'both';
      rows = await next();
    }
    return totals;
  };
  try {
    return await database.transaction(work, signal, TIMEOUT_MS);
  } catch (error) {
    throw explained(error, asking, database.place);
  }
}

/** A role called plugset would find our `workspaces` where its query says that of the platform: `$user` is in the path. */
const WITHOUT_OURS = `
  select set_config('search_path', coalesce(string_agg(quote_ident(name), ', ' order by place), ''), true)
    from unnest(current_schemas(false)) with ordinality as path (name, place)
   where name <> 'plugset'`;

interface DifferenceRow extends PlatformTotals {
  readonly plugins: number;
  readonly owned_plugins: number;
  /** Rows of plugins in which nobody is named. */
  readonly ownerless: number;
  readonly recorded: number;
  /** Workspaces that are there as before, had plugins, and have none, where no plugin at all was read. */
  readonly stripped: number;
  readonly namespace: string;
  /** Null in the one row of a read without any difference. */
  readonly name: string | null;
  readonly platform_id: string | null;
  readonly entries: string | null;
  readonly row_digest: string;
  readonly recorded_digest: string;
  readonly recorded_generation: number | null;
  readonly recorded_declared_at_ms: number;
  readonly was_deleted: boolean;
  readonly is_renamed: boolean;
}

function refuseDoubtful(totals: DifferenceRow, allowEmpty: boolean): void {
  const { workspaces, plugins, ownerless, recorded, stripped } = totals;
  // The last one alone may go like any other.
  if (workspaces === 0 && recorded > 1 && !allowEmpty) {
    throw transient(
      'StoreUnavailable',
      `${QUERY_SETTING}.workspaces came back empty, and ${recorded} were declared: nothing is concluded from that; if they are to go, set ${QUERY_SETTING}.allowEmpty`,
    );
  }
  if (stripped > 1 && !allowEmpty) {
    throw transient(
      'StoreUnavailable',
      `${QUERY_SETTING}.plugins came back empty, and ${stripped} workspaces had plugins: nothing is concluded from that; if all plugins are to go, set ${QUERY_SETTING}.allowEmpty`,
    );
  }
  if (ownerless > 0) {
    throw transient(
      'StoreUnavailable',
      `${ownerless} rows of ${QUERY_SETTING}.plugins have NULL in workspace_id or workspace, so nobody knows whose they are: nothing is concluded from that; select the rows of existing workspaces only`,
    );
  }
  if (workspaces > 0 && plugins > 0 && totals.owned_plugins === 0) {
    throw transient(
      'StoreUnavailable',
      `none of the ${plugins} rows of ${QUERY_SETTING}.plugins belongs to any workspace: nothing is concluded from that; compare its column workspace_id or workspace with what ${QUERY_SETTING}.workspaces selects`,
    );
  }
}

function differenceFrom(row: DifferenceRow, joinsById: boolean): readonly Difference[] {
  if (row.name === null) return [];
  const key = workspaceKey(row.namespace, row.name);
  if (row.entries === null) return [{ kind: 'missing', key, isRenamed: row.is_renamed }];
  const recorded =
    row.recorded_generation === null
      ? undefined
      : {
          generation: row.recorded_generation,
          digest: row.recorded_digest,
          declaredAtMs: row.recorded_declared_at_ms,
          isDeleted: row.was_deleted,
        };
  const { entries, row_digest: rowDigest, platform_id: platformId } = row;
  return [{ kind: 'changed', key, entries, rowDigest, platformId, joinsById, recorded }];
}

/**
 * Whose words name columns, tables and functions, and never a value: a query that is wrong, or that would write; a lock or
 * a time that ran out.
 */
const TELLING = /^(?:42|25006|55P03|57014)/;

/** What the database says of a query that people wrote is theirs to read. */
function explained(thrown: unknown, asking: keyof PlatformQueries | 'both' | undefined, place: string): ReconcileError {
  const error = classifyError(thrown);
  const { cause } = error;
  if (error.reason === 'InvalidSpec') return transient('StoreUnavailable', error.message, error);
  if (asking === undefined || !(cause instanceof PostgresFault) || !cause.answered) return error;
  const code = cause.code ?? '';
  const said = TELLING.test(code) ? cause.message : `it failed (SQLSTATE ${code})`;
  const where = asking === 'both' ? QUERY_SETTING : `${QUERY_SETTING}.${asking}`;
  return transient('StoreUnavailable', `${where}: ${said}; ${place}; run it in psql as the role of plugset`, error);
}
