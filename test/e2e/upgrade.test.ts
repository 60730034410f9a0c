import { cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { migrate } from '../../src/adapters/postgres/migrate.ts';
import { PostgresDatabase } from '../../src/adapters/postgres/postgres-database.ts';
import { withBackend } from '../support/backend.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { everythingIn } from '../support/temp-dir.ts';

const MIGRATIONS = new URL('../../src/adapters/postgres/migrations/', import.meta.url);
/** Of the first version that ran anywhere: what it wrote into the database and onto targets stands here as it wrote it. */
const FIRST_SCHEMA = ['0001_workspaces.sql', '0002_controller.sql'];
const AUTHORITY = '5b13e1d0-a92b-4c2c-aaa0-b1944281f5d1';
const TREE = 'sha256:b3d3a4d50c9b4a00ddbb4dd9eb1dc658be23ce1f8c0684fc29bfb017e1944b11';
const REVISION = 'sha256:90ffe1b76ba4a0dec0a74c9ea490fa4775463e853f6508d08997de5cb11ba884';
const PLUGIN = { 'SKILL.md': 'one\n', 'plugin.yaml': 'name: one\nversion: 1.0.0\n' };
const ON_TARGET: Readonly<Record<string, string>> = {
  '.plugset/fence': `${AUTHORITY} 1795422746346 1795422746\n`,
  '.plugset/format': '1\n',
  '.plugset/lock': '',
  '.plugset/executables/one': '',
  '.plugset/files/one':
    '2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806  SKILL.md\n' +
    'c30a7c08e1ca47a5c5394d7faaf3a1e4d4965b86111b5f1da606b89934946cda  plugin.yaml\n',
  '.plugset/receipts/one': `{"format":1,"plugin":"one","workspace":"default/alice","authority":"${AUTHORITY}","source":"local://one","revision":"${REVISION}","digest":"${TREE}"}\n`,
  'plugins/one/SKILL.md': PLUGIN['SKILL.md'],
  'plugins/one/plugin.yaml': PLUGIN['plugin.yaml'],
};
const STATUS = {
  observedGeneration: 2,
  conditions: [
    {
      type: 'Ready',
      status: 'True',
      reason: 'Succeeded',
      message: '1 of 1 plugins as declared',
      observedGeneration: 2,
      lastTransitionTime: '2026-11-23T06:00:00.000Z',
    },
  ],
  summary: '1/1',
  target: 'directory alice',
  plugins: [
    {
      name: 'one',
      state: 'Installed',
      managed: true,
      source: 'local://one',
      revision: REVISION,
      digest: TREE,
      version: '1.0.0',
      reason: 'Succeeded',
      message: 'as declared',
      since: '2026-11-23T06:00:00.000Z',
    },
  ],
  converged: { one: TREE },
  planId: `sha256:${'0'.repeat(64)}`,
  history: [],
  corrective: 3,
  intentional: 1,
};

await withBackend('postgres', (serverUrl) => {
  describe('an upgrade from the first version', () => {
    let base: string;
    let database: FreshDatabase;
    let plugset: Plugset | undefined;

    beforeEach(async () => {
      base = await mkdtemp(join(tmpdir(), 'plugset-upgrade-'));
      database = await freshDatabase(serverUrl);
      // It comes with the schema of this build.
      await database.sql('drop schema plugset cascade');
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await database.drop();
      await rm(base, { recursive: true, force: true });
    });

    const withDatabase = async <T>(use: (opened: PostgresDatabase) => Promise<T>): Promise<T> => {
      const opened = new PostgresDatabase({
        connectionString: database.url,
        origin: 'the test',
        logger: new RecordingLogger(),
      });
      try {
        return await use(opened);
      } finally {
        await opened.close();
      }
    };
    const firstMigrations = async (): Promise<URL> => {
      for (const name of FIRST_SCHEMA) await cp(new URL(name, MIGRATIONS), join(base, name));
      return pathToFileURL(`${base}/`);
    };

    it('keeps declarations and status, takes receipts for what they are, and writes nothing on a target', async () => {
      const home = join(base, 'root/alice');
      for (const [path, content] of Object.entries(ON_TARGET)) {
        await mkdir(dirname(join(home, path)), { recursive: true });
        await writeFile(join(home, path), content);
      }
      await writePlugin(join(base, 'registry/one'), PLUGIN);
      const directory = await firstMigrations();
      await withDatabase((opened) => migrate(opened, AbortSignal.timeout(30_000), { directory }));
      await database.sql(
        `insert into plugset.leases values ('controller', 'host-1', 1795422746346, 1795422746, now(), now())`,
      );
      await database.sql(
        `insert into plugset.workspaces (name, runtime, target, policy) values ('alice', 'hermes', $1, $2)`,
        [{ directory: { path: home } }, { drift: 'Enforce', prune: 'Managed', adopt: 'Equal', deletion: 'Remove' }],
      );
      await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'one', 'one')`);
      await database.sql(
        `insert into plugset.workspace_status (namespace, name, status, fence_epoch, fence_n)
         values ('default', 'alice', $1, 1795422746346, 1795422746)`,
        [STATUS],
      );
      const times = (): Promise<readonly number[]> =>
        Promise.all(Object.keys(ON_TARGET).map(async (path) => (await stat(join(home, path))).mtimeMs));
      const before = { paths: await everythingIn(home), times: await times() };

      plugset = await startPlugset({
        store: { kind: 'postgres', url: database.url },
        config: {
          authority: AUTHORITY,
          roots: [{ path: join(base, 'root') }],
          registries: [join(base, 'registry')],
        },
      });
      const status = await plugset.requested('alice');
      expect(status).toMatchObject({
        observedGeneration: 2,
        summary: '1/1',
        plugins: [{ name: 'one', state: 'Installed', managed: true, revision: REVISION, digest: TREE }],
        corrective: 3,
        intentional: 1,
      });
      expect({ paths: await everythingIn(home), times: await times() }).toEqual(before);

      // And it goes on from there.
      await writeFile(join(home, 'plugins/one/SKILL.md'), 'edited\n');
      await plugset.requested('alice');
      expect(await readFile(join(home, 'plugins/one/SKILL.md'), 'utf8')).toBe('one\n');
      expect(await plugset.status('alice')).toMatchObject({ corrective: 4, intentional: 1 });
      // What it wrote is what the first version would have written, so that one can take up a target again.
      for (const [path, content] of Object.entries(ON_TARGET)) {
        const isOfTheTurn = path === '.plugset/fence';
        expect(await readFile(join(home, path), 'utf8'), path).toEqual(
          isOfTheTurn ? expect.stringMatching(new RegExp(`^${AUTHORITY} \\d+ \\d+\n$`)) : content,
        );
      }
    });

    it('and back: the first version refuses the new schema with a clear word, and changes nothing', async () => {
      await withDatabase((opened) => migrate(opened, AbortSignal.timeout(30_000)));
      const directory = await firstMigrations();
      const back = withDatabase((opened) => migrate(opened, AbortSignal.timeout(30_000), { directory }));
      await expect(back).rejects.toThrow(/was migrated by a newer plugset .*upgrade this binary/);
      const [row] = await database.sql<{ count: number }>('select count(*)::int as count from plugset.migrations');
      expect(row?.count).toBeGreaterThan(FIRST_SCHEMA.length);
    });
  });
});
