import { terminal } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import {
  DEFAULT_POLICY,
  type FleetPolicy,
  type Requests,
  type Workspace,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { applyManifest } from './apply-manifest.ts';
import type { PostgresDatabase } from './postgres-database.ts';
import { declinedMessage } from './postgres-fault.ts';
import { keyValues, WorkspaceRows, type DeclarationTables } from './workspace-rows.ts';

export interface PostgresWorkspaceStoreOptions {
  /** Shared with other users of the database; whoever opened it closes it, after the store. */
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What applies where a workspace's own policy says nothing; asked each time, for it can be configured anew. */
  readonly defaultPolicy?: () => FleetPolicy;
  /** As in {@link WorkspaceRows}. */
  readonly pollMs?: number;
  readonly fullScanMs?: number;
  readonly heartbeatMs?: number;
}

/** Workspaces as rows that people write with SQL; see `migrations/0001_workspaces.sql`. */
export class PostgresWorkspaceStore implements WorkspaceStore {
  readonly #database: PostgresDatabase;
  readonly #rows: WorkspaceRows;

  constructor({ defaultPolicy = () => DEFAULT_POLICY, ...options }: PostgresWorkspaceStoreOptions) {
    this.#database = options.database;
    this.#rows = new WorkspaceRows({ ...options, defaultPolicy, tables: TABLES });
  }

  list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    return this.#rows.list(signal);
  }

  get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    return this.#rows.get(key, signal);
  }

  declarations(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<WorkspaceKey, Workspace | undefined>> {
    return this.#rows.declarations(keys, signal);
  }

  watch(onKey: (key: WorkspaceKey, cause: WatchCause) => void, signal: AbortSignal): Promise<void> {
    return this.#rows.watch(onKey, signal);
  }

  writeStatus(write: StatusWrite, signal: AbortSignal): Promise<void> {
    return this.#rows.writeStatus(write, signal);
  }

  finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    return this.#rows.finishDeletion(key, fence, signal);
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

  close(): Promise<void> {
    return this.#rows.close();
  }
}

/** A row wins over a tombstone of its name, which a transaction of isolation level repeatable read can leave beside it. */
const TABLES: DeclarationTables = {
  statementName: 'get-workspace',
  declared: `
  select namespace, name, dirty from plugset.workspaces
  union all
  select namespace, name, dirty from plugset.tombstones t
   where not exists (select from plugset.workspaces w where w.namespace = t.namespace and w.name = t.name)`,
  one: (namespace, name) => `
  select 1 as rank, namespace, name, plugset.manifest_of(w) as manifest, generation::float8, dirty::float8,
         floor(extract(epoch from declared_at) * 1000)::float8 as declared_at_ms, false as deleting
    from plugset.workspaces w where namespace = ${namespace} and name = ${name}
  union all
  select 2, namespace, name, manifest, generation::float8, dirty::float8,
         floor(extract(epoch from deleted_at) * 1000)::float8, true
    from plugset.tombstones where namespace = ${namespace} and name = ${name}
   order by rank limit 1`,
  tombstones: 'plugset.tombstones where true',
  living: 'plugset.workspaces where true',
  names: {
    workspaces: (isTombstone) => `row plugset.${isTombstone ? 'tombstones' : 'workspaces'}`,
    plugins: (isTombstone) => `row plugset.${isTombstone ? 'tombstones' : 'plugins'}`,
  },
};

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
