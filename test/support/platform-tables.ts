import type { WorkspaceManifest } from '../../src/domain/workspace.ts';
import type { FreshDatabase } from './fresh-database.ts';

/** A platform's own tables, of which plugset may only read, and the two queries over them. */
export async function createPlatformTables({ sql }: FreshDatabase): Promise<void> {
  await sql(`
    create table public.workspaces (
      id uuid primary key default gen_random_uuid(),
      org text not null default 'default',
      name text,
      runtime text,
      instance_id text,
      target jsonb,
      platform_id text,
      labels jsonb,
      annotations jsonb,
      policy jsonb,
      is_paused boolean not null default false,
      deleted_at timestamptz
    );
    create table public.workspace_declared_plugins (
      workspace_id uuid not null references public.workspaces (id) on delete cascade,
      plugin_name text not null,
      source_raw text,
      reviewed_digest text,
      settings json,
      added bigint generated always as identity
    )`);
}

export const PLATFORM_QUERIES = {
  workspaces: `
    select org as namespace, name, coalesce(platform_id, name) as id, runtime, target, labels, annotations, policy, is_paused as suspend
      from public.workspaces where deleted_at is null -- the ones that are in use`,
  plugins: `
    select w.org as namespace, w.name as workspace, plugin_name as name, source_raw as source, reviewed_digest as digest,
           settings as config, added as position
      from public.workspace_declared_plugins join public.workspaces w on w.id = workspace_id;`,
} as const;

/** As the platform would: one transaction. */
export async function declareOnPlatform({ sql }: FreshDatabase, { metadata, spec }: WorkspaceManifest): Promise<void> {
  const org = metadata.namespace ?? 'default';
  const json = (value: unknown): string | null => (value === undefined ? null : JSON.stringify(value));
  const values = [
    org,
    metadata.name,
    spec.runtime,
    json(spec.target),
    spec.id ?? null,
    json(metadata.labels),
    json(metadata.annotations),
    json(spec.policy),
    spec.suspend ?? false,
  ];
  await sql('begin');
  const [before] = await sql<{ id: string }>('select id from public.workspaces where org = $1 and name = $2', [
    org,
    metadata.name,
  ]);
  const [row] =
    before === undefined
      ? await sql<{ id: string }>(
          `insert into public.workspaces (org, name, runtime, target, platform_id, labels, annotations, policy, is_paused)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9) returning id`,
          values,
        )
      : await sql<{ id: string }>(
          `update public.workspaces set runtime = $3, target = $4, platform_id = $5, labels = $6, annotations = $7,
                  policy = $8, is_paused = $9
            where org = $1 and name = $2 returning id`,
          values,
        );
  await sql('delete from public.workspace_declared_plugins where workspace_id = $1', [row?.id]);
  for (const { name, source, digest, config } of spec.plugins) {
    await sql(
      `insert into public.workspace_declared_plugins (workspace_id, plugin_name, source_raw, reviewed_digest, settings)
       values ($1, $2, $3, $4, $5)`,
      [row?.id, name, source, digest ?? null, json(config)],
    );
  }
  await sql('commit');
}
