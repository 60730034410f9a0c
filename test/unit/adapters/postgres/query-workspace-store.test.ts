import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { migrate } from '../../../../src/adapters/postgres/migrate.ts';
import { PostgresDatabase } from '../../../../src/adapters/postgres/postgres-database.ts';
import {
  QueryWorkspaceStore,
  type QueryWorkspaceStoreOptions,
} from '../../../../src/adapters/postgres/query-workspace-store.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { Fence } from '../../../../src/domain/fence.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../../../src/domain/name.ts';
import { DEFAULT_POLICY, FILES_DEFAULT_POLICY, type Workspace } from '../../../../src/domain/workspace.ts';
import { withBackend } from '../../../support/backend.ts';
import { eventually } from '../../../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../../../support/fresh-database.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const ALICE = keyOf('alice');
const BOB = keyOf('bob');
const TURN: Fence = { authority: 'test', epoch: 1, n: 1 };
const HOUR_MS = 3_600_000;

const TABLES = `
  create table public.workspaces (id uuid primary key default gen_random_uuid(), name text, runtime text default 'hermes', dir text);
  create table public.declared (workspace_id uuid, plugin text, source text);
  insert into public.workspaces (name, dir) values ('alice', '/srv/alice'), ('bob', '/srv/bob');
  insert into public.declared select id, 'superpowers', 'local://superpowers' from public.workspaces`;

const QUERIES = {
  workspaces: 'select id, name, runtime, dir as directory_path from public.workspaces',
  plugins: 'select workspace_id, plugin as name, source from public.declared',
};

await withBackend('postgres', (address) =>
  describe('QueryWorkspaceStore', () => {
    let fresh: FreshDatabase;
    let logger: RecordingLogger;
    let ends: (() => Promise<unknown>)[];
    const { signal } = new AbortController();
    const sql: FreshDatabase['sql'] = (...args) => fresh.sql(...args);

    beforeEach(async () => {
      fresh = await freshDatabase(address);
      logger = new RecordingLogger();
      ends = [];
      await sql(TABLES);
    });
    afterEach(async () => {
      for (const end of ends.toReversed()) await end();
      await fresh.drop();
    });

    /** One that leads and reads again at every call, unless told otherwise. */
    function open(options: Partial<QueryWorkspaceStoreOptions> = {}, url = fresh.url): QueryWorkspaceStore {
      const database = new PostgresDatabase({ connectionString: url, logger });
      const store = new QueryWorkspaceStore({
        database,
        queries: QUERIES,
        turn: () => TURN,
        defaultPolicy: () => FILES_DEFAULT_POLICY,
        clock: new SystemClock(),
        logger,
        intervalMs: 0,
        ...options,
      });
      ends.push(
        () => database.close(),
        () => store.close(),
      );
      return store;
    }

    async function found(store: QueryWorkspaceStore, key: WorkspaceKey): Promise<Workspace> {
      const loaded = await store.get(key, signal);
      if (loaded.kind !== 'found') throw new Error(`${key} is ${JSON.stringify(loaded)}`);
      return loaded.workspace;
    }

    const said = (): string => logger.lines.map(({ message }) => message).join('\n');

    const plugins = async (store: QueryWorkspaceStore, key: WorkspaceKey): Promise<readonly string[]> =>
      (await found(store, key)).plugins.map(({ name }) => name);

    test('reads a row for each workspace and its plugins by id', async () => {
      const store = open();
      expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
      const [row] = await sql<{ id: string }>(`select id from public.workspaces where name = 'alice'`);
      expect(await found(store, ALICE)).toMatchObject({
        id: row?.id,
        runtime: 'hermes',
        target: { directory: { path: '/srv/alice' } },
        plugins: [{ name: 'superpowers', source: 'local://superpowers' }],
        generation: 1,
        policy: { deletion: 'Orphan' },
      });
    });

    test('requests that cannot be read are not taken for none', async () => {
      const store = open();
      await store.annotate(ALICE, { 'plugset.dev/approved-plan': 'sha256:1' }, signal);
      await sql(`update plugset.declarations set requests = '"damaged"', deleted_at = now() where name = 'alice'`);
      await sql(`delete from public.workspaces where name = 'alice'`);
      const problems = [expect.stringMatching(/^row plugset\.declarations \(default, alice\): requests: is not what/)];
      expect(await store.get(ALICE, signal)).toMatchObject({ kind: 'malformed', problems, deleting: false });
      expect((await store.get(BOB, signal)).kind).toBe('found');
      await expect(store.annotate(ALICE, { 'plugset.dev/requestedAt': 'now' }, signal)).rejects.toThrow(
        /requests: is not/,
      );
      expect(await sql(`select requests from plugset.declarations where name = 'alice'`)).toEqual([
        { requests: 'damaged' },
      ]);
    });

    test('the order in which rows lie in the table changes nothing', async () => {
      await sql(`insert into public.declared select id, 'another', 'local://another' from public.workspaces`);
      const store = open();
      await store.list(signal);
      const read = (): Promise<unknown> =>
        sql('select name, generation, dirty, declared_at from plugset.declarations order by 1');
      const before = await read();
      await sql(
        `update public.declared set source = source where plugin = 'another'; update public.workspaces set dir = dir`,
      );
      await store.list(signal);
      expect(await read()).toEqual(before);
    });

    describe('a read that cannot be the whole concludes nothing', () => {
      const changes: [string, string, string][] = [
        [
          'a column of the workspaces is gone',
          'alter table public.workspaces drop column dir',
          'column "dir" does not exist',
        ],
        [
          'a column of the plugins is gone',
          'alter table public.declared drop column source',
          'store.postgres.query.plugins: column "source" does not exist',
        ],
        ['a table is gone', 'drop table public.declared', 'relation "public.declared" does not exist'],
        ['no workspace is left', 'delete from public.workspaces', 'came back empty, and 2 were declared'],
        [
          'no plugin is left to anybody',
          'delete from public.declared',
          'store.postgres.query.plugins came back empty, and 2 workspaces had plugins',
        ],
        [
          'a plugin names nobody',
          'update public.declared set workspace_id = null',
          '2 rows of store.postgres.query.plugins have NULL in workspace_id',
        ],
        [
          'no plugin names anybody we know',
          'update public.declared set workspace_id = gen_random_uuid()',
          'none of the 2 rows of store.postgres.query.plugins belongs to any workspace',
        ],
      ];
      test.each(changes)('%s', async (_title, change, message) => {
        const stop = new AbortController();
        const store = open({ intervalMs: 30 });
        await store.watch(() => undefined, stop.signal);
        await sql(change);
        await eventually(() => expect(said()).toContain(message));
        expect(said()).toContain('what was read last stands');
        expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
        expect(await found(store, ALICE)).toMatchObject({ deleting: false, generation: 1 });
        expect(await plugins(store, ALICE)).toEqual(['superpowers']);
        stop.abort();
        // Whoever starts now has no last good read to stand on.
        await expect(open().list(signal)).rejects.toMatchObject({
          class: 'transient',
          reason: 'StoreUnavailable',
          message: expect.stringContaining(message),
        });
      });

      test('a query that would write is refused', async () => {
        const store = open({
          queries: {
            ...QUERIES,
            workspaces: `${QUERIES.workspaces} where plugset.is_name(name) and nextval('plugset.change_number') > 0`,
          },
        });
        await expect(store.list(signal)).rejects.toThrow('cannot execute nextval() in a read-only transaction');
      });

      test('a query that is two statements is refused', async () => {
        const workspaces = `select 1) q; delete from public.workspaces; select * from (${QUERIES.workspaces}`;
        await expect(open({ queries: { ...QUERIES, workspaces } }).list(signal)).rejects.toThrow('multiple commands');
        expect(await sql('select name from public.workspaces')).toHaveLength(2);
      });
    });

    describe('rows that are gone', () => {
      const remove = { defaultPolicy: () => DEFAULT_POLICY, vanishGraceMs: 0 };

      test('count only when they are missing for the grace time, as rows written anew are not', async () => {
        const store = open({ ...remove, vanishGraceMs: HOUR_MS, intervalMs: 20 });
        const stop = new AbortController();
        await store.watch(() => undefined, stop.signal);
        await sql(`delete from public.workspaces where name = 'alice'`);
        await sql(`insert into public.workspaces (name, dir) values ('carol', '/srv/carol')`);
        await eventually(async () => expect(await store.list(signal)).toContain(keyOf('carol')));
        expect((await found(store, ALICE)).deleting).toBe(false);
        stop.abort();
      });

      test('become tombstones, which outlive a restart, until the target is clean', async () => {
        const store = open(remove);
        await store.list(signal);
        await sql(`delete from public.workspaces where name = 'alice'`);
        await eventually(async () => expect((await found(store, ALICE)).deleting).toBe(true));
        expect(await found(open(remove), ALICE)).toMatchObject({
          deleting: true,
          generation: 2,
          policy: { deletion: 'Remove' },
        });
        await store.finishDeletion(ALICE, TURN, signal);
        expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
      });

      test('are told by one call where nobody follows: it reads a second time after the grace time', async () => {
        await open(remove).list(signal);
        await sql(`delete from public.workspaces where name = 'alice'`);
        const once = open({ ...remove, intervalMs: HOUR_MS, vanishGraceMs: 20 });
        await once.list(signal);
        expect((await found(once, ALICE)).deleting).toBe(true);
      });

      test('the last one alone counts like any other', async () => {
        const store = open(remove);
        await store.list(signal);
        await sql(`delete from public.workspaces where name = 'bob'`);
        await eventually(async () => expect((await found(store, BOB)).deleting).toBe(true));
        await sql('delete from public.workspaces');
        await eventually(async () => expect((await found(store, ALICE)).deleting).toBe(true));
      });

      test('all of them count where that was allowed', async () => {
        const store = open({ ...remove, allowEmpty: true });
        await store.list(signal);
        await sql('delete from public.workspaces');
        await eventually(async () => expect((await found(store, BOB)).deleting).toBe(true));
      });

      test('are believed of all plugins where one workspace had some, or that was allowed', async () => {
        const store = open(remove);
        await store.list(signal);
        await sql(`delete from public.declared using public.workspaces where id = workspace_id and name = 'bob'`);
        expect(await plugins(store, BOB)).toEqual([]);
        await sql('delete from public.declared');
        expect(await plugins(store, ALICE)).toEqual([]);

        const allowed = open({ ...remove, allowEmpty: true });
        await sql(`insert into public.declared select id, 'superpowers', 'local://superpowers' from public.workspaces`);
        expect(await plugins(allowed, BOB)).toEqual(['superpowers']);
        await sql('delete from public.declared');
        expect(await plugins(allowed, BOB)).toEqual([]);
        expect(await plugins(allowed, ALICE)).toEqual([]);
      });

      test('are believed of plugins that went with their workspaces', async () => {
        await sql(`insert into public.workspaces (name, dir) values ('carol', '/srv/carol')`);
        const store = open(remove);
        await store.list(signal);
        await sql(`delete from public.declared; delete from public.workspaces where name <> 'carol'`);
        await eventually(async () => expect((await found(store, BOB)).deleting).toBe(true));
        expect((await found(store, keyOf('carol'))).deleting).toBe(false);
      });

      test('of a workspace that was renamed nothing is taken away', async () => {
        const store = open(remove);
        await store.list(signal);
        await sql(`update public.workspaces set name = 'alicia' where name = 'alice'`);
        await eventually(async () => expect((await found(store, ALICE)).deleting).toBe(true));
        expect((await found(store, ALICE)).policy.deletion).toBe('Orphan');
        expect(await found(store, keyOf('alicia'))).toMatchObject({ deleting: false, generation: 1 });
      });

      test('are held while a row can be put down to nobody, and that is said', async () => {
        const queries = { ...QUERIES, workspaces: `select id, name, runtime, dir as directory_path from public.ids` };
        await sql(`create view public.ids as select upper(id::text) as id, name, runtime, dir from public.workspaces`);
        const options = {
          ...remove,
          queries: {
            ...queries,
            plugins: 'select upper(workspace_id::text) as workspace_id, plugin as name, source from public.declared',
          },
        };
        const store = open(options);
        await store.list(signal);
        await sql(
          `update public.workspaces set name = 'Alice!' where name = 'alice'; delete from public.workspaces where name = 'bob'`,
        );
        await store.list(signal);
        await store.list(signal);
        expect(said()).toContain(
          '1 rows of store.postgres.query.workspaces have neither a usable name nor a usable id',
        );
        expect((await found(store, ALICE)).deleting).toBe(false);
        expect((await found(store, BOB)).deleting).toBe(false);
      });
    });

    describe('names', () => {
      test('a row whose name breaks the grammar is shown by its id, and fails alone', async () => {
        const [row] = await sql<{ id: string }>(
          `update public.workspaces set name = 'Alice Smith' where name = 'alice' returning id`,
        );
        const id = row?.id ?? '';
        const store = open();
        expect((await store.list(signal)).toSorted()).toEqual([BOB, keyOf(id)].toSorted());
        expect(await store.get(keyOf(id), signal)).toMatchObject({
          kind: 'malformed',
          problems: [
            expect.stringContaining(
              `row of store.postgres.query.workspaces (default, ${id}): name: must be lower-case`,
            ),
          ],
        });
        expect(await found(store, BOB)).toMatchObject({ generation: 1 });
        const byId = open({
          queries: {
            ...QUERIES,
            workspaces: 'select id, id as name, runtime, dir as directory_path from public.workspaces',
          },
        });
        expect(await plugins(byId, keyOf(id))).toEqual(['superpowers']);
      });

      test('a name that two rows have is a problem of theirs alone', async () => {
        await sql(`insert into public.workspaces (name, dir) values ('alice', '/srv/other')`);
        const store = open();
        expect(await store.get(ALICE, signal)).toMatchObject({
          kind: 'malformed',
          problems: [expect.stringContaining('2 rows have this name')],
        });
        expect(await found(store, BOB)).toMatchObject({ generation: 1 });
      });
    });

    describe('who records', () => {
      test('a process without a turn sees what the leader would record, and records nothing', async () => {
        const client = open({ turn: () => undefined });
        expect((await client.list(signal)).toSorted()).toEqual([ALICE, BOB]);
        expect(await found(client, ALICE)).toMatchObject({ generation: 1, deleting: false });
        const both = await client.declarations([ALICE, BOB, keyOf('nobody')], signal);
        expect([...both].map(([key, workspace]) => [key, workspace?.runtime])).toEqual([
          [ALICE, 'hermes'],
          [BOB, 'hermes'],
        ]);
        expect(await sql('select * from plugset.declarations')).toEqual([]);
        await expect(client.annotate(ALICE, {}, signal)).rejects.toThrow('default/alice is not recorded yet');
        expect(await client.annotate(keyOf('nobody'), {}, signal)).toBe(false);

        await open().list(signal);
        await sql(
          `update public.workspaces set runtime = 'claude-code' where name = 'alice'; delete from public.workspaces where name = 'bob'`,
        );
        expect(await found(client, ALICE)).toMatchObject({ generation: 2, runtime: 'claude-code' });
        expect(await found(client, BOB)).toMatchObject({ deleting: false });
        expect((await client.declarations([ALICE], signal)).get(ALICE)?.runtime).toBe('claude-code');
        expect(await sql(`select generation::int from plugset.declarations where name = 'alice'`)).toEqual([
          { generation: 1 },
        ]);
      });

      test('a turn that is over records nothing', async () => {
        const store = open();
        await store.list(signal);
        await sql(`insert into plugset.leases values ('controller', 'somebody else', 1, 2, now(), now())`);
        await sql(`update public.workspaces set runtime = 'claude-code' where name = 'alice'`);
        await expect(store.list(signal)).rejects.toMatchObject({ class: 'aborted', reason: 'NotLeader' });
        expect(await sql(`select distinct generation::int from plugset.declarations`)).toEqual([{ generation: 1 }]);
        const next = open({ turn: () => ({ ...TURN, n: 2 }) });
        expect(await found(next, ALICE)).toMatchObject({ generation: 2, runtime: 'claude-code' });
      });
    });

    test('two stores on one back end see the same', async () => {
      const seen: WorkspaceKey[] = [];
      const stop = new AbortController();
      const [leader, other] = [open({ intervalMs: 30 }), open({ intervalMs: 30 })];
      await other.watch((key) => seen.push(key), stop.signal);
      await sql(`update public.workspaces set runtime = 'claude-code' where name = 'alice'`);
      await eventually(async () => expect((await found(leader, ALICE)).generation).toBe(2));
      await eventually(() => expect(seen).toContain(ALICE));
      expect(await found(other, ALICE)).toEqual(await found(leader, ALICE));
      stop.abort();
    });

    test('a notification of the platform is a read at once, again after the connection was lost', async () => {
      const seen: WorkspaceKey[] = [];
      const stop = new AbortController();
      const store = open({ intervalMs: HOUR_MS, channel: 'workspaces_changed', pollMs: HOUR_MS, fullScanMs: HOUR_MS });
      await store.watch((key) => seen.push(key), stop.signal);
      const edit = (source: string): Promise<unknown> =>
        sql(`update public.declared set source = '${source}'; notify workspaces_changed`);
      await eventually(async () => {
        await edit('local://one');
        expect((await found(store, ALICE)).plugins[0]?.source).toBe('local://one');
      });
      expect(seen).toContain(ALICE);
      await sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'plugset'`,
      );
      await eventually(async () => {
        await edit('local://two');
        expect((await found(store, ALICE)).plugins[0]?.source).toBe('local://two');
      });
      stop.abort();
    });

    test('apply and delete are refused, with the place to go to', async () => {
      const refused = {
        class: 'terminal',
        reason: 'InvalidSpec',
        message: expect.stringContaining('change it in your platform'),
      };
      await expect(open().delete(ALICE)).rejects.toMatchObject(refused);
    });

    test('a table without its schema is never our own, whatever the path of the role says', async () => {
      await sql(
        `do $$ begin execute format('alter database %I set search_path = plugset, public', current_database()); end $$`,
      );
      const store = open({ queries: { ...QUERIES, workspaces: QUERIES.workspaces.replace('public.', '') } });
      expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    });

    test('rows of our own table are not read, and that is said', async () => {
      await sql(`insert into plugset.workspaces (name, runtime, target) values ('own', 'hermes', '{"external": {}}')`);
      expect(await open().list(signal)).not.toContain(keyOf('own'));
      expect(said()).toContain('1 workspaces in plugset.workspaces are not looked at');
    });

    test('a role that may read two tables and owns the schema plugset is enough', async () => {
      const role = `reader_${randomBytes(6).toString('hex')}`;
      await sql('drop schema plugset cascade');
      await sql(`create role ${role} login password 'secret'; create schema plugset authorization ${role};
                 grant select on public.workspaces, public.declared to ${role}`);
      ends.push(() => sql(`drop owned by ${role} cascade; drop role ${role}`));
      const url = new URL(fresh.url);
      [url.username, url.password] = [role, 'secret'];
      const database = new PostgresDatabase({ connectionString: url.href, logger });
      await migrate(database, signal);
      await database.close();
      const store = open({}, url.href);
      expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
      await sql(`revoke select on public.declared from ${role}`);
      await expect(open({}, url.href).list(signal)).rejects.toThrow(
        'store.postgres.query.plugins: permission denied for table declared',
      );
    });
  }),
);

function keyOf(text: string): WorkspaceKey {
  const key = parseWorkspaceKey(text);
  if (key === undefined) throw new Error(`not a key: ${text}`);
  return key;
}
