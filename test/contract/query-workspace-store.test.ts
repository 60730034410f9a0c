import { QueryWorkspaceStore } from '../../src/adapters/postgres/query-workspace-store.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { splitWorkspaceKey } from '../../src/domain/name.ts';
import { FILES_DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { createPlatformTables, declareOnPlatform, PLATFORM_QUERIES } from '../support/platform-tables.ts';
import { proxiedDatabase } from '../support/proxied-database.ts';
import { describeWorkspaceStore, WITHOUT_CLAIMS, type WorkspaceStoreBackend } from './workspace-store.ts';

const READ_ONLY = 'the tables are the platform’s: plugset never writes there';

await withBackend('postgres', (address) =>
  describeWorkspaceStore('a platform’s own tables', {
    defaultPolicy: FILES_DEFAULT_POLICY,
    origin: /^row of store\.postgres\.query\.plugins \(team-a, alice, \w+\)$/,
    create: () => createBackend(address),
    unsupported: {
      ...WITHOUT_CLAIMS,
      'a watch names what this store itself was told': READ_ONLY,
      'apply says what it did, and does nothing twice': READ_ONLY,
      'apply keeps the order of plugins and a missing namespace means default': READ_ONLY,
      'apply mends a malformed declaration': READ_ONLY,
      'delete takes a declaration out, once': READ_ONLY,
      'two stores on one back end see the same': `${READ_ONLY}; declared by SQL in the tests of its own`,
    },
  }),
);

async function createBackend(address: string): Promise<WorkspaceStoreBackend> {
  const { direct, network, logger, connect, dispose } = await proxiedDatabase(address);
  await createPlatformTables(direct);
  return {
    open: async () =>
      new QueryWorkspaceStore({
        database: connect(),
        queries: PLATFORM_QUERIES,
        // Above every turn of the suite: what it refuses are statuses.
        turn: () => ({ authority: 'suite', epoch: 1_700_000_000_000, n: 1000 }),
        defaultPolicy: () => FILES_DEFAULT_POLICY,
        clock: new SystemClock(),
        logger,
        intervalMs: 50,
      }),
    declare: (manifest) => declareOnPlatform(direct, manifest),
    remove: async (key) => {
      const { namespace, name } = splitWorkspaceKey(key);
      await direct.sql('delete from public.workspaces where org = $1 and name = $2', [namespace, name]);
    },
    malform: async (key) => {
      const { namespace, name } = splitWorkspaceKey(key);
      await direct.sql('update public.workspaces set runtime = null where org = $1 and name = $2', [namespace, name]);
    },
    break: async () => network.refuse(),
    heal: async () => network.heal(),
    fence: (turn) => ({ authority: 'suite', epoch: 1_700_000_000_000, n: turn }),
    dispose,
  };
}
