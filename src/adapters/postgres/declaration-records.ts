import { canonicalJson } from '../../domain/digest.ts';
import { transient } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { askedAfter, requestsSchema } from '../../domain/requests.ts';
import type { Requests, WorkspaceManifest } from '../../domain/workspace.ts';
import type { PlatformDeclaration } from './platform-declaration.ts';
import { PLATFORM_NAMES } from './platform-declaration.ts';
import type { PostgresDatabase } from './postgres-database.ts';
import type { Changed, Missing } from './read-platform.ts';
import { turnOf } from './stale-turn.ts';
import { unreadableRequests } from './workspace-row.ts';
import { keyValues, refuseStale, type DeclarationTables, type NewerRow } from './workspace-rows.ts';

/** What was read of a platform's tables, as it stands in `plugset.declarations`. */
export const DECLARATION_TABLES: DeclarationTables = {
  statementName: 'get-declaration',
  declared: 'select namespace, name, dirty from plugset.declarations',
  one: (namespace, name) => `
  select namespace, name, manifest, requests, generation::float8, dirty::float8,
         -- Of a tombstone, the last usable declaration counts.
         case when deleted_at is null or manifest is null then problems end as problems,
         floor(extract(epoch from coalesce(deleted_at, declared_at)) * 1000)::float8 as declared_at_ms,
         deleted_at is not null as deleting
    from plugset.declarations where namespace = ${namespace} and name = ${name}`,
  tombstones: 'plugset.declarations where deleted_at is not null',
  living: 'plugset.declarations where deleted_at is null',
  names: PLATFORM_NAMES,
};

/** A difference and what its rows say. */
export interface ReadDeclaration extends Changed {
  readonly declaration: PlatformDeclaration;
}

/** The record that follows from a difference, as whoever may not write it sees it. */
export function newerRow({ recorded, declaration }: ReadDeclaration, nowMs: number): NewerRow {
  const isSame = recorded !== undefined && !recorded.isDeleted && recorded.digest === declaration.digest;
  return {
    manifest: declaration.manifest,
    problems: declaration.problems,
    generation: isSame ? recorded.generation : (recorded?.generation ?? 0) + 1,
    declared_at_ms: isSame ? recorded.declaredAtMs : nowMs,
    deleting: false,
  };
}

/** Records of declarations; every write is one turn's, and refused (aborted) once a newer turn is known. */
export class DeclarationRecords {
  readonly #database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.#database = database;
  }

  /** A batch that was read. The generation is raised here, where nobody can come between. */
  async write(batch: readonly ReadDeclaration[], fence: Fence, signal: AbortSignal): Promise<void> {
    const records = batch.map(({ key, platformId, rowDigest, declaration }) => ({
      ...splitWorkspaceKey(key),
      platform_id: platformId,
      row_digest: rowDigest,
      ...declaration,
    }));
    await this.#write(WRITE, records, fence, signal);
  }

  /**
   * These are gone for good: each becomes a tombstone. Of one that only has another name now nothing is taken away: its
   * target is the other's.
   */
  async bury(batch: readonly Missing[], fence: Fence, signal: AbortSignal): Promise<void> {
    const gone = batch.map(({ key, isRenamed }) => ({ ...splitWorkspaceKey(key), is_renamed: isRenamed }));
    await this.#write(BURY, gone, fence, signal);
  }

  /** `false` where nothing is recorded. */
  async ask(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    return this.#database.transaction(async (query) => {
      const [row] = await query<{ requests: unknown; manifest: WorkspaceManifest | null }>(ASKED, keyValues(key));
      if (row === undefined) return false;
      const before = requestsSchema.safeParse(row.requests).data;
      if (before === undefined) throw transient('StoreUnavailable', unreadableRequests(key));
      const asked = askedAfter(before, requests, row.manifest ?? undefined);
      await query(ASK, [...keyValues(key), JSON.stringify(asked)]);
      return true;
    }, signal);
  }

  async #write(sql: string, rows: readonly object[], fence: Fence, signal: AbortSignal): Promise<void> {
    const values = [canonicalJson(rows), fence.epoch, fence.n];
    const [row] = await this.#database.query<{ is_stale: boolean }>(sql, values, signal);
    refuseStale(row, 'what was read of the platform');
  }
}

const ASKED = 'select requests, manifest from plugset.declarations where namespace = $1 and name = $2 for update';

const ASK = `
  update plugset.declarations set requests = $3::jsonb, dirty = nextval('plugset.change_number')
   where namespace = $1 and name = $2`;

const WRITE = `
  with ${turnOf('$2', '$3')}, written as (
    insert into plugset.declarations as d
           (namespace, name, platform_id, row_digest, digest, manifest, problems, generation, dirty, declared_at)
    select r.namespace, r.name, r.platform_id, r.row_digest, r.digest, r.manifest, r.problems,
           1, nextval('plugset.change_number'), clock_timestamp()
      from jsonb_to_recordset($1::jsonb) as r (namespace text, name text, platform_id text, row_digest text,
                                               digest text, manifest jsonb, problems jsonb)
      join turn on not turn.is_stale
    on conflict (namespace, name) do update
      set platform_id = excluded.platform_id, row_digest = excluded.row_digest, digest = excluded.digest,
          manifest = coalesce(excluded.manifest, d.manifest), problems = excluded.problems,
          generation = d.generation + case when d.digest <> excluded.digest or d.deleted_at is not null then 1 else 0 end,
          declared_at = case when d.digest <> excluded.digest or d.deleted_at is not null
                             then excluded.declared_at else d.declared_at end,
          dirty = excluded.dirty, deleted_at = null)
  select is_stale from turn`;

const BURY = `
  with ${turnOf('$2', '$3')}, buried as (
    update plugset.declarations d
       set deleted_at = clock_timestamp(), generation = d.generation + 1, dirty = nextval('plugset.change_number'),
           manifest = case when r.is_renamed and d.manifest is not null
             then jsonb_set(d.manifest, '{spec,policy}',
                            coalesce(d.manifest #> '{spec,policy}', '{}') || '{"deletion": "Orphan"}')
             else d.manifest end
      from jsonb_to_recordset($1::jsonb) as r (namespace text, name text, is_renamed boolean), turn
     where not turn.is_stale and d.namespace = r.namespace and d.name = r.name and d.deleted_at is null)
  select is_stale from turn`;
