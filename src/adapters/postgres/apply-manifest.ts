import type { WorkspaceManifest } from '../../domain/workspace.ts';
import type { Query } from './postgres-database.ts';

/** Writes a manifest as rows, in the transaction of `query`. Whether anything changed is what the triggers say. */
export async function applyManifest(
  query: Query,
  manifest: WorkspaceManifest,
): Promise<'created' | 'configured' | 'unchanged'> {
  const { metadata, spec } = manifest;
  const key = [metadata.namespace ?? 'default', metadata.name];
  const before = await lastChange(query, key);
  await query(UPSERT_WORKSPACE, [
    ...key,
    spec.id ?? null,
    spec.runtime,
    JSON.stringify(spec.target),
    JSON.stringify(spec.policy ?? {}),
    spec.suspend ?? false,
    JSON.stringify(metadata.labels ?? {}),
    JSON.stringify(metadata.annotations ?? {}),
  ]);
  await query(DELETE_OTHER_PLUGINS, [...key, spec.plugins.map(({ name }) => name)]);
  await query(UPSERT_PLUGINS, [...key, JSON.stringify(spec.plugins)]);
  if (before === undefined) return 'created';
  return (await lastChange(query, key)) === before ? 'unchanged' : 'configured';
}

/** Locks the row, so that the comparison is not about somebody else's edit. */
async function lastChange(query: Query, key: readonly string[]): Promise<string | undefined> {
  const sql = 'select dirty::text from plugset.workspaces where namespace = $1 and name = $2 for update';
  const [row] = await query<{ dirty: string }>(sql, key);
  return row?.dirty;
}

/** Annotations of plugset itself are requests, not declarations: one that the manifest does not mention stays. */
const UPSERT_WORKSPACE = `
  insert into plugset.workspaces as w (namespace, name, id, runtime, target, policy, suspend, labels, annotations)
  values ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7, $8::jsonb, $9::jsonb)
  on conflict (namespace, name) do update
    set id = excluded.id, runtime = excluded.runtime, target = excluded.target, policy = excluded.policy,
        suspend = excluded.suspend, labels = excluded.labels,
        annotations = (select coalesce(jsonb_object_agg(key, value), '{}')
                         from jsonb_each(w.annotations) where key like 'plugset.dev/%') || excluded.annotations`;

const DELETE_OTHER_PLUGINS = `
  delete from plugset.plugins where namespace = $1 and workspace = $2 and name <> all ($3::text[])`;

const UPSERT_PLUGINS = `
  insert into plugset.plugins as p (namespace, workspace, name, source, digest, config)
  select $1, $2, plugin ->> 'name', plugin ->> 'source', plugin ->> 'digest', plugin -> 'config'
    from jsonb_array_elements($3::jsonb) with ordinality as listed (plugin, place)
   order by place
  on conflict (namespace, workspace, name) do update
    set source = excluded.source, digest = excluded.digest, config = excluded.config
    where (p.source, p.digest, p.config) is distinct from (excluded.source, excluded.digest, excluded.config)`;
