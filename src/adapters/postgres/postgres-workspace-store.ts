import { aborted, terminal } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { splitWorkspaceKey, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { DEFAULT_POLICY, type Policy, type Requests, type WorkspaceManifest } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { ChangeFeed, type DueChange } from './change-feed.ts';
import type { PostgresDatabase } from './postgres-database.ts';
import { declinedMessage } from './postgres-fault.ts';
import { applyManifest } from './apply-manifest.ts';
import { loadedFrom, type WorkspaceRow } from './workspace-row.ts';

export interface PostgresWorkspaceStoreOptions {
  /** Shared with other users of the database; whoever opened it closes it, after the store. */
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What applies where a workspace's own policy says nothing; asked each time, for it can be configured anew. */
  readonly defaultPolicy?: () => Policy;
  /** Between two looks for changes whose notification was lost; ±50 %. Default 5 s. */
  readonly pollMs?: number;
  /** Between two full scans, which name every key; ±50 %. Default 10 min. */
  readonly fullScanMs?: number;
  /** Between two questions on the listening connection, to notice that it is dead. Default 15 s. */
  readonly heartbeatMs?: number;
}

/** Workspaces as rows that people write with SQL; see `migrations/0001_workspaces.sql`. */
export class PostgresWorkspaceStore implements WorkspaceStore {
  readonly #options: PostgresWorkspaceStoreOptions;
  readonly #database: PostgresDatabase;
  readonly #closing = new AbortController();
  readonly #feeds = new Set<Promise<void>>();
  /** By key, the number of the change that the last `get` handed out; a status speaks of that one. */
  readonly #seen = new Map<WorkspaceKey, number>();

  constructor(options: PostgresWorkspaceStoreOptions) {
    this.#options = options;
    this.#database = options.database;
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    const rows = await this.#database.query<{ namespace: string; name: string }>(LIST, [], signal);
    return rows.map((row) => workspaceKey(row.namespace, row.name));
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    const [row] = await this.#database.query<WorkspaceRow>(GET, keyValues(key), signal);
    if (row === undefined) {
      this.#seen.delete(key);
      return { kind: 'absent' };
    }
    this.#seen.set(key, row.dirty);
    return loadedFrom(key, row, this.#options.defaultPolicy?.() ?? DEFAULT_POLICY);
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
    this.#feeds.add(running);
    void running.finally(() => this.#feeds.delete(running));
  }

  async writeStatus({ key, status, fence }: StatusWrite, signal: AbortSignal): Promise<void> {
    const values = [...keyValues(key), fence.epoch, fence.n, storableJson(status), this.#seen.get(key) ?? null];
    const [row] = await this.#database.query<{ is_stale: boolean }>(WRITE_STATUS, values, signal);
    refuseStale(row, key);
  }

  async finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    const values = [...keyValues(key), fence.epoch, fence.n];
    const [row] = await this.#database.query<{ is_stale: boolean }>(FINISH_DELETION, values, signal);
    refuseStale(row, key);
    this.#seen.delete(key);
  }

  async apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<'created' | 'configured' | 'unchanged'> {
    try {
      return await this.#database.transaction((query) => applyManifest(query, manifest), signal);
    } catch (error) {
      const declined = declinedMessage(error);
      if (declined === undefined) throw error;
      throw terminal(
        'InvalidSpec',
        `the database refused the declaration of ${manifest.metadata.name}: ${declined}`,
        error,
      );
    }
  }

  async delete(key: WorkspaceKey, signal: AbortSignal): Promise<boolean> {
    const rows = await this.#database.query(
      'delete from plugset.workspaces where namespace = $1 and name = $2 returning name',
      keyValues(key),
      signal,
    );
    return rows.length > 0;
  }

  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    return (await this.#database.query(ANNOTATE, [...keyValues(key), JSON.stringify(requests)], signal)).length > 0;
  }

  async close(): Promise<void> {
    this.#closing.abort(aborted('the store was closed'));
    await Promise.all(this.#feeds);
  }

  async #listDue(signal: AbortSignal): Promise<readonly DueChange[]> {
    const rows = await this.#database.query<{ namespace: string; name: string; dirty: number }>(LIST_DUE, [], signal);
    return rows.map((row) => ({ key: workspaceKey(row.namespace, row.name), dirty: row.dirty }));
  }
}

/** A row wins over a tombstone of its name, which a transaction of isolation level repeatable read can leave beside it. */
const DECLARED = `
  select namespace, name, dirty from plugset.workspaces
  union all
  select namespace, name, dirty from plugset.tombstones t
   where not exists (select from plugset.workspaces w where w.namespace = t.namespace and w.name = t.name)`;

const LIST = `select namespace, name from (${DECLARED}) declared`;

const LIST_DUE = `
  select namespace, name, dirty::float8
    from (${DECLARED}) declared
    left join plugset.workspace_status s using (namespace, name)
   where declared.dirty > coalesce(s.handled, 0)`;

const GET = {
  name: 'get-workspace',
  text: `
  select found.*, s.status
    from (select 1 as rank, namespace, name, plugset.manifest_of(w) as manifest, generation::float8, dirty::float8,
                 floor(extract(epoch from declared_at) * 1000)::float8 as declared_at_ms, false as deleting
            from plugset.workspaces w where namespace = $1 and name = $2
          union all
          select 2, namespace, name, manifest, generation::float8, dirty::float8,
                 floor(extract(epoch from deleted_at) * 1000)::float8, true
            from plugset.tombstones where namespace = $1 and name = $2
           order by rank limit 1) found
    left join plugset.workspace_status s using (namespace, name)`,
};

/**
 * Whether the fence ($3, $4) is older than one this database has seen: that of the lease, or of any status. The lease row
 * alone would not do: it can be deleted by hand.
 */
const TURN = `
  turn as (
    select coalesce((select (epoch, n) > ($3::bigint, $4::bigint) from plugset.leases where name = 'controller'), false)
        or coalesce((select (fence_epoch, fence_n) > ($3::bigint, $4::bigint) from plugset.workspace_status
                      order by fence_epoch desc, fence_n desc limit 1), false) as is_stale)`;

const WRITE_STATUS = `
  with ${TURN}, written as (
    insert into plugset.workspace_status as s (namespace, name, fence_epoch, fence_n, status, handled)
    select $1, $2, $3, $4, $5::jsonb, coalesce($6::bigint, 0)
      from turn
     where not turn.is_stale
       and exists (select from (${DECLARED}) declared where declared.namespace = $1 and declared.name = $2)
    on conflict (namespace, name) do update
      set fence_epoch = excluded.fence_epoch, fence_n = excluded.fence_n, status = excluded.status,
          handled = coalesce($6::bigint, s.handled), updated_at = clock_timestamp()
      where (s.fence_epoch, s.fence_n) <= (excluded.fence_epoch, excluded.fence_n))
  select is_stale from turn`;

const FINISH_DELETION = `
  with ${TURN}, buried as (
    delete from plugset.tombstones where namespace = $1 and name = $2 and not (select is_stale from turn)
  ), forgotten as (
    delete from plugset.workspace_status
     where namespace = $1 and name = $2 and not (select is_stale from turn)
       and not exists (select from plugset.workspaces where namespace = $1 and name = $2)
  )
  select is_stale from turn`;

const ANNOTATE = `
  with declared as (
    update plugset.workspaces set annotations = annotations || $3::jsonb where namespace = $1 and name = $2 returning name
  ), deleted as (
    update plugset.tombstones
       set manifest = jsonb_set(manifest, '{metadata,annotations}', (manifest #> '{metadata,annotations}') || $3::jsonb),
           dirty = nextval('plugset.change_number')
     where namespace = $1 and name = $2
    returning name
  )
  select name from declared union all select name from deleted`;

function keyValues(key: WorkspaceKey): readonly [string, string] {
  const { namespace, name } = splitWorkspaceKey(key);
  return [namespace, name];
}

function refuseStale(row: { is_stale: boolean } | undefined, key: WorkspaceKey): void {
  if (row?.is_stale !== true) return;
  throw aborted(`the status of ${key} was not written: another process leads since a newer turn`);
}

/** jsonb cannot hold U+0000 or half a surrogate pair, and what a target prints may have either. */
function storableJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === 'string' ? Buffer.from(inner).toString().replaceAll('\0', '\uFFFD') : inner,
  );
}
