import { PostgresWorkspaceStore } from '../../src/adapters/postgres/postgres-workspace-store.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { splitWorkspaceKey } from '../../src/domain/name.ts';
import { DEFAULT_POLICY, type WorkspaceManifest } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import type { FreshDatabase } from '../support/fresh-database.ts';
import { proxiedDatabase } from '../support/proxied-database.ts';
import { describeWorkspaceStore, WITHOUT_CLAIMS, type WorkspaceStoreBackend } from './workspace-store.ts';

await withBackend('postgres', (address) =>
  describeWorkspaceStore('postgres', {
    unsupported: WITHOUT_CLAIMS,
    defaultPolicy: DEFAULT_POLICY,
    origin: /^row plugset\.(plugins|tombstones) \(team-a, alice, \w+\)$/,
    create: () => createBackend(address),
  }),
);

/** The stores sit behind a proxy that can be cut; the person with psql does not. */
async function createBackend(address: string): Promise<WorkspaceStoreBackend> {
  const { direct, network, logger, connect, dispose } = await proxiedDatabase(address);
  return {
    open: async () => new PostgresWorkspaceStore({ database: connect(), clock: new SystemClock(), logger }),
    declare: (manifest) => declare(direct, manifest),
    remove: async (key) => {
      const { namespace, name } = splitWorkspaceKey(key);
      await direct.sql('delete from plugset.workspaces where namespace = $1 and name = $2', [namespace, name]);
    },
    malform: async (key) => {
      const { namespace, name } = splitWorkspaceKey(key);
      const target = JSON.stringify({ directory: { path: 'not/absolute' } });
      await direct.sql('update plugset.workspaces set target = $3 where namespace = $1 and name = $2', [
        namespace,
        name,
        target,
      ]);
    },
    break: async () => network.refuse(),
    heal: async () => network.heal(),
    fence: (turn) => ({ authority: 'suite', epoch: 1_700_000_000_000, n: turn }),
    dispose,
  };
}

/** As a person would with psql: the workspace, then its plugins, in one transaction. */
async function declare({ sql }: FreshDatabase, { metadata, spec }: WorkspaceManifest): Promise<void> {
  const namespace = metadata.namespace ?? 'default';
  const row = { namespace, labels: {}, annotations: {}, policy: {}, suspend: false, ...metadata, ...spec };
  await sql('begin');
  await sql(
    `insert into plugset.workspaces (namespace, name, id, runtime, target, policy, suspend, labels, annotations)
     select r.namespace, r.name, r.id, r.runtime, r.target, r.policy, r.suspend, r.labels, r.annotations
       from jsonb_populate_record(null::plugset.workspaces, $1) r
     on conflict (namespace, name) do update
       set id = excluded.id, runtime = excluded.runtime, target = excluded.target, policy = excluded.policy,
           suspend = excluded.suspend, labels = excluded.labels, annotations = excluded.annotations`,
    [JSON.stringify(row)],
  );
  await sql('delete from plugset.plugins where namespace = $1 and workspace = $2 and name <> all ($3)', [
    namespace,
    metadata.name,
    spec.plugins.map(({ name }) => name),
  ]);
  for (const { name, source, digest, config } of spec.plugins) {
    await sql(
      `insert into plugset.plugins (namespace, workspace, name, source, digest, config) values ($1, $2, $3, $4, $5, $6)
       on conflict (namespace, workspace, name) do update set source = $4, digest = $5, config = $6`,
      [namespace, metadata.name, name, source, digest ?? null, config === undefined ? null : JSON.stringify(config)],
    );
  }
  await sql('commit');
}
