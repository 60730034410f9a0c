import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { PostgresDatabase } from '../../../../src/adapters/postgres/postgres-database.ts';
import {
  PostgresWorkspaceStore,
  type PostgresWorkspaceStoreOptions,
} from '../../../../src/adapters/postgres/postgres-workspace-store.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../../../src/domain/name.ts';
import { EMPTY_STATUS } from '../../../../src/domain/status.ts';
import type { WatchCause } from '../../../../src/ports/workspace-store.ts';
import { withBackend } from '../../../support/backend.ts';
import { EmbeddedPostgres } from '../../../support/embedded-postgres.ts';
import { eventually } from '../../../support/eventually.ts';
import { freshDatabase } from '../../../support/fresh-database.ts';
import { proxiedDatabase, type ProxiedDatabase } from '../../../support/proxied-database.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const ALICE = parseWorkspaceKey('alice') as WorkspaceKey;
const BOB = parseWorkspaceKey('bob') as WorkspaceKey;
const CAROL = parseWorkspaceKey('carol') as WorkspaceKey;
const FENCE = { authority: 'test', epoch: 1, n: 1 };
const HOUR_MS = 3_600_000;

/** Only LISTEN is at work, unless a test shortens one of the others. */
const ONLY_LISTEN = { pollMs: HOUR_MS, fullScanMs: HOUR_MS, heartbeatMs: HOUR_MS } as const;

await withBackend('postgres', (address) =>
  describe('PostgresWorkspaceStore.watch', () => {
    let world: ProxiedDatabase;
    let store: PostgresWorkspaceStore;
    let seen: { key: WorkspaceKey; cause: WatchCause }[];
    let openAtStart: typeof seen;
    let stop: AbortController;

    beforeEach(async () => {
      world = await proxiedDatabase(address);
      stop = new AbortController();
      seen = [];
      await insert('alice');
      await insert('bob');
    });
    afterEach(async () => {
      stop.abort();
      await store.close();
      await world.dispose();
    });

    async function insert(name: string): Promise<void> {
      await world.direct.sql(
        `insert into plugset.workspaces (name, runtime, target) values ($1, 'hermes', '{"external": {}}')`,
        [name],
      );
    }

    async function watch(options: Partial<PostgresWorkspaceStoreOptions>): Promise<void> {
      store = new PostgresWorkspaceStore({
        database: world.connect(),
        clock: new SystemClock(),
        logger: world.logger,
        ...ONLY_LISTEN,
        ...options,
      });
      await store.watch((key, cause) => seen.push({ key, cause }), stop.signal);
      openAtStart = seen.splice(0);
    }

    const named = (key: WorkspaceKey, cause: WatchCause): Promise<void> =>
      eventually(() => expect(seen).toContainEqual({ key, cause }));

    const edit = (name: string): Promise<unknown> =>
      world.direct.sql(`update plugset.workspaces set runtime = runtime || 'x' where name = $1`, [name]);

    const killConnections = (): Promise<unknown> =>
      world.direct.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'plugset'`,
      );

    test('a killed connection loses nothing: every key is named, then edits as before', async () => {
      await watch({});
      await killConnections();
      await edit('alice');
      await named(ALICE, 'relist');
      await named(BOB, 'relist');
      seen.length = 0;
      await edit('bob');
      await eventually(() => expect(seen).toContainEqual({ key: BOB, cause: 'edit' }));
    });

    test('killed again and again, with edits all the while, ends with every edit named', async () => {
      await watch({});
      for (let round = 0; round < 3; round++) {
        await killConnections();
        seen.length = 0;
        await edit('alice');
        await eventually(() => expect(seen.map(({ key }) => key)).toContain(ALICE));
      }
    });

    test('a connection that is dead without a word is noticed by the heartbeat', async () => {
      store = new PostgresWorkspaceStore({
        database: world.connect({ statementTimeoutMs: 200, connectTimeoutMs: 300 }),
        clock: new SystemClock(),
        logger: world.logger,
        ...ONLY_LISTEN,
        heartbeatMs: 50,
      });
      await store.watch((key, cause) => seen.push({ key, cause }), stop.signal);
      world.network.blackHole();
      await edit('alice');
      await eventually(() =>
        expect(world.logger.at('warn').map(({ message }) => message)).toContain(
          'the database is not heard; trying again',
        ),
      );
      world.network.heal();
      await named(ALICE, 'relist');
      await eventually(() =>
        expect(world.logger.at('info').map(({ message }) => message)).toContain('listening to the database again'),
      );
    });

    test('a lost notification is healed by the poll, once', async () => {
      await watch({ pollMs: 20 });
      await world.direct.sql('alter table plugset.workspaces disable trigger notify_update');
      seen.length = 0;
      await edit('alice');
      await named(ALICE, 'edit');
      await insert('carol');
      await eventually(() => expect(seen.map(({ key }) => key)).toContain('default/carol'));
      expect(seen.filter(({ key }) => key === ALICE)).toHaveLength(1);
    });

    test('the poll leaves alone what a pass has read or a status speaks of', async () => {
      await world.direct.sql('alter table plugset.workspaces disable trigger notify_update');
      await watch({ pollMs: 20 });
      await store.get(ALICE, stop.signal);
      await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: FENCE }, stop.signal);
      seen.length = 0;
      await edit('bob');
      await named(BOB, 'edit');
      expect(seen).toEqual([{ key: BOB, cause: 'edit' }]);
    });

    test('an edit during a pass stays due when its status is written', async () => {
      await watch({});
      await store.get(ALICE, stop.signal);
      await edit('alice');
      await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: FENCE }, stop.signal);
      const due = (): Promise<unknown[]> =>
        world.direct.sql(
          'select name from plugset.workspaces w join plugset.workspace_status s using (namespace, name) where w.dirty > s.handled',
        );
      expect(await due()).toEqual([{ name: 'alice' }]);
      await store.get(ALICE, stop.signal);
      await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: FENCE }, stop.signal);
      expect(await due()).toEqual([]);
    });

    test('what was changed while nobody listened is named at the start, and nothing else', async () => {
      await watch({});
      expect(openAtStart.toSorted((a, b) => a.key.localeCompare(b.key))).toEqual([
        { key: ALICE, cause: 'edit' },
        { key: BOB, cause: 'edit' },
      ]);
      await store.get(ALICE, stop.signal);
      await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: FENCE }, stop.signal);
      await store.close();
      await watch({});
      expect(openAtStart).toEqual([{ key: BOB, cause: 'edit' }]);
    });

    test('a status that says what was said before is asked for as long as it does not speak of the newest change', async () => {
      await watch({});
      const awaits = async (): Promise<unknown> => {
        const loaded = await store.get(ALICE, stop.signal);
        return loaded.kind === 'found' && loaded.awaitsStatus;
      };
      expect(await awaits()).toBe(true);
      await store.writeStatus({ key: ALICE, status: EMPTY_STATUS, fence: FENCE }, stop.signal);
      expect(await awaits()).toBe(false);
      await world.direct.sql(`update plugset.workspaces set annotations = '{"example.com/note": "new"}'`);
      expect(await awaits()).toBe(true);
    });

    test('many declarations are read at once as each by itself', async () => {
      await watch({});
      const target = { directory: { path: 'not/absolute' } };
      await world.direct.sql(`insert into plugset.workspaces (name, runtime, target) values ('carol', 'hermes', $1)`, [
        target,
      ]);
      const keys = [ALICE, CAROL, parseWorkspaceKey('nobody') as WorkspaceKey];
      const loaded = await store.get(ALICE, stop.signal);
      const all = await store.declarations(keys, stop.signal);
      expect([...all.keys()].toSorted()).toEqual([ALICE, CAROL]);
      expect(all.get(ALICE)).toEqual(loaded.kind === 'found' ? loaded.workspace : 'not found');
      expect(all.get(CAROL)).toBeUndefined();
    });

    test('the full scan names every key', async () => {
      await watch({ fullScanMs: 20 });
      await named(ALICE, 'relist');
      await eventually(() => expect(seen).toContainEqual({ key: BOB, cause: 'relist' }));
    });

    test('what anybody else notifies on the channel is passed over', async () => {
      await watch({});
      for (const payload of ['', 'x', 'UPPER/case 1', '../.. 1', 'a/b/c'])
        await world.direct.sql('select pg_notify($1, $2)', ['plugset', payload]);
      await edit('alice');
      await named(ALICE, 'edit');
      expect(seen.filter(({ key }) => key !== ALICE && key !== 'default/x')).toEqual([]);
    });

    test('a bulk of edits in one transaction names each key', async () => {
      await watch({});
      await world.direct.sql(
        `insert into plugset.workspaces (name, runtime, target) select 'w-' || n, 'hermes', '{"external": {}}' from generate_series(1, 500) n`,
      );
      await eventually(() => expect(new Set(seen.map(({ key }) => key)).size).toBe(500));
    });

    test('without a database a watch is refused, as unavailable', async () => {
      await watch({});
      world.network.refuse();
      await expect(store.watch(() => undefined, stop.signal)).rejects.toMatchObject({
        class: 'transient',
        reason: 'StoreUnavailable',
      });
    });
  }),
);

await withBackend('postgres', () =>
  describe('PostgresWorkspaceStore.watch over a restart of the server', () => {
    test('names every key afterwards, and edits as before', async (context) => {
      const server = await EmbeddedPostgres.start();
      if (server === undefined) return context.skip('no binaries of Postgres to start a second one');
      const fresh = await freshDatabase(server.url);
      const logger = new RecordingLogger();
      const database = new PostgresDatabase({ connectionString: fresh.url, logger });
      const store = new PostgresWorkspaceStore({ database, clock: new SystemClock(), logger, ...ONLY_LISTEN });
      const seen: string[] = [];
      const stop = new AbortController();
      await store.apply(external('alice'), stop.signal);
      await store.watch((key, cause) => seen.push(`${key} ${cause}`), stop.signal);

      await server.pause();
      await expect(store.list(stop.signal)).rejects.toMatchObject({ reason: 'StoreUnavailable' });
      await server.resume();
      await eventually(() => expect(seen).toContain('default/alice relist'));
      await store.apply(external('bob'), stop.signal);
      await eventually(() => expect(seen).toContain('default/bob edit'));

      await store.close();
      await database.close();
      await server.stop();
    });
  }),
);

function external(name: string): Parameters<PostgresWorkspaceStore['apply']>[0] {
  return {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name },
    spec: { runtime: 'hermes', target: { external: {} }, plugins: [] },
  };
}
