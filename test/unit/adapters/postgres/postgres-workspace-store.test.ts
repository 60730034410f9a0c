import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { readAddress } from '../../../../src/adapters/postgres/postgres-address.ts';
import { PostgresDatabase } from '../../../../src/adapters/postgres/postgres-database.ts';
import { classifyPostgresError } from '../../../../src/adapters/postgres/postgres-fault.ts';
import { PostgresLeadership } from '../../../../src/adapters/postgres/postgres-leadership.ts';
import { PostgresWorkspaceStore } from '../../../../src/adapters/postgres/postgres-workspace-store.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../../../src/domain/name.ts';
import type { Reason } from '../../../../src/domain/reason.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION, type WorkspaceManifest } from '../../../../src/domain/workspace.ts';
import { withBackend } from '../../../support/backend.ts';
import { freshDatabase } from '../../../support/fresh-database.ts';
import { proxiedDatabase, type ProxiedDatabase } from '../../../support/proxied-database.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const ALICE = parseWorkspaceKey('alice') as WorkspaceKey;
const FENCE = { authority: 'test', epoch: 1, n: 1 };

await withBackend('postgres', (address) =>
  describe('PostgresWorkspaceStore', () => {
    let world: ProxiedDatabase;
    let store: PostgresWorkspaceStore;
    const signal = new AbortController().signal;

    beforeEach(async () => {
      world = await proxiedDatabase(address);
      store = new PostgresWorkspaceStore({ database: world.connect(), clock: new SystemClock(), logger: world.logger });
    });
    afterEach(async () => {
      await store.close();
      await world.dispose();
    });

    describe('rows that the constraints let through and the schema does not', () => {
      const malformed: readonly (readonly [string, string])[] = [
        [
          `target = '{"docker": {"container": 5}}'`,
          'row plugset.workspaces (default, alice): target.docker.container: ',
        ],
        [
          `target = '{"docker": {"conatiner": "c"}}'`,
          'row plugset.workspaces (default, alice): target.docker.conatiner: unknown key; allowed here: container, engine',
        ],
        [
          `target = '{"docker": {"container": "a b"}}'`,
          'row plugset.workspaces (default, alice): target.docker.container: must be a container name',
        ],
        [`labels = '{"org": null}'`, 'row plugset.workspaces (default, alice): labels.org: '],
        [`annotations = '{"n": 5}'`, 'row plugset.workspaces (default, alice): annotations.n: '],
        [`policy = '{"drift": ["Off"]}'`, 'row plugset.workspaces (default, alice): policy.drift: '],
      ];
      test.each(malformed)('%s', async (change, problem) => {
        await store.apply(manifest({ docker: {} }), signal);
        await store.apply({ ...manifest({ external: {} }), metadata: { name: 'bob' } }, signal);
        await world.direct.sql(`update plugset.workspaces set ${change} where name = 'alice'`);
        expect(await store.get(ALICE, signal)).toMatchObject({
          kind: 'malformed',
          problems: [expect.stringContaining(problem)],
        });
        expect(await store.get(parseWorkspaceKey('bob') as WorkspaceKey, signal)).toMatchObject({ kind: 'found' });
      });

      test('deleted, are malformed tombstones, which a person can take away', async () => {
        await store.apply(manifest({ docker: {} }), signal);
        await world.direct.sql(`update plugset.workspaces set target = '{"docker": {"container": 5}}'`);
        await store.delete(ALICE, signal);
        expect(await store.get(ALICE, signal)).toMatchObject({
          kind: 'malformed',
          problems: [expect.stringContaining('row plugset.tombstones (default, alice): target.docker.container')],
        });
        await world.direct.sql('delete from plugset.tombstones');
        expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
      });
    });

    test('a status holds whatever a target printed', async () => {
      await store.apply(manifest({ external: {} }), signal);
      const status: WorkspaceStatus = { ...EMPTY_STATUS, target: 'nul \0 half \ud83d and whole 😀 \\u0000' };
      await store.writeStatus({ key: ALICE, status, fence: FENCE }, signal);
      expect(await store.get(ALICE, signal)).toMatchObject({
        status: { target: 'nul \ufffd half \ufffd and whole 😀 \\u0000' },
      });
    });

    test('the views show a status to people', async () => {
      await store.apply(manifest({ external: {} }), signal);
      const at = '2026-11-23T10:00:00.000Z';
      const status: WorkspaceStatus = {
        ...EMPTY_STATUS,
        observedGeneration: 1,
        conditions: [
          {
            type: 'Ready',
            status: 'False',
            reason: 'PluginNotFound',
            message: 'no such ref',
            observedGeneration: 1,
            lastTransitionTime: at,
          },
        ],
        summary: '0/1',
        target: 'external',
        plugins: [
          {
            name: 'notes' as never,
            state: 'Failed',
            managed: false,
            reason: 'PluginNotFound',
            message: 'no such ref',
            stalled: true,
            seenAt: at,
            since: at,
          },
        ],
      };
      await store.writeStatus({ key: ALICE, status, fence: FENCE }, signal);
      expect(
        await world.direct.sql(
          'select name, ready, reason, message, summary, target, generation::int, observed_generation::int from plugset.status',
        ),
      ).toEqual([
        {
          name: 'alice',
          ready: 'False',
          reason: 'PluginNotFound',
          message: 'no such ref',
          summary: '0/1',
          target: 'external',
          generation: 1,
          observed_generation: 1,
        },
      ]);
      expect(
        await world.direct.sql(
          'select workspace, plugin, state, reason, managed, since, seen_at, stalled from plugset.plugin_status',
        ),
      ).toEqual([
        {
          workspace: 'alice',
          plugin: 'notes',
          state: 'Failed',
          reason: 'PluginNotFound',
          managed: false,
          since: new Date(at),
          seen_at: new Date(at),
          stalled: true,
        },
      ]);
    });

    test('a deletion that is held up says by what', async () => {
      const shownFor = async (reason: Reason): Promise<unknown> => {
        const [tombstone] = await world.direct.sql('select generation::int from plugset.tombstones');
        const observedGeneration = Number(tombstone?.['generation']);
        const ready = { type: 'Ready', status: 'False', reason, message: '', observedGeneration } as const;
        const status = { ...EMPTY_STATUS, conditions: [{ ...ready, lastTransitionTime: '2026-11-23T10:00:00.000Z' }] };
        await store.writeStatus({ key: ALICE, status, fence: FENCE }, signal);
        const [row] = await world.direct.sql('select reason from plugset.status');
        return row?.['reason'];
      };
      await store.apply(manifest({ external: {} }), signal);
      await store.delete(ALICE, signal);
      expect(await shownFor('Deleting')).toBe('Deleting');
      expect(await shownFor('Unreachable')).toBe('Deleting: Unreachable');
    });

    test('a status under an older turn than that of the lease is refused, and nothing is written', async () => {
      await store.apply(manifest({ external: {} }), signal);
      const database = world.connect({ poolSize: 1 });
      const options = { database, clock: new SystemClock(), logger: world.logger };
      const first = await new PostgresLeadership(options).acquire(signal);
      await first.release();
      const second = await new PostgresLeadership(options).acquire(signal);
      const write = (summary: string, fence: typeof FENCE): Promise<void> =>
        store.writeStatus({ key: ALICE, status: { ...EMPTY_STATUS, summary }, fence }, signal);
      await expect(write('stale', first.fence)).rejects.toMatchObject({ class: 'aborted', reason: 'NotLeader' });
      await store.delete(ALICE, signal);
      await expect(store.finishDeletion(ALICE, first.fence, signal)).rejects.toMatchObject({
        class: 'aborted',
        reason: 'NotLeader',
      });
      expect(await store.get(ALICE, signal)).toMatchObject({ status: EMPTY_STATUS });
      await write('fresh', second.fence);
      expect(await store.get(ALICE, signal)).toMatchObject({ status: { summary: 'fresh' } });
      await second.release();
    });

    test('apply keeps requests of plugset itself, takes other annotations as declared', async () => {
      await store.apply(
        { ...manifest({ external: {} }), metadata: { name: 'alice', annotations: { note: 'old' } } },
        signal,
      );
      await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'token' }, signal);
      expect(
        await store.apply(
          { ...manifest({ external: {} }), metadata: { name: 'alice', annotations: { note: 'old' } } },
          signal,
        ),
      ).toBe('unchanged');
      expect(await store.apply(manifest({ external: {} }), signal)).toBe('configured');
      expect(await store.get(ALICE, signal)).toMatchObject({
        workspace: { annotations: { 'plugset.dev/requestedAt': 'token' }, generation: 1 },
      });
    });

    test('a request for a deleted workspace wakes its clean-up', async () => {
      await store.apply(manifest({ external: {} }), signal);
      await store.delete(ALICE, signal);
      expect(await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'token' }, signal)).toBe(true);
      expect(await store.get(ALICE, signal)).toMatchObject({
        workspace: { deleting: true, annotations: { 'plugset.dev/requestedAt': 'token' } },
      });
    });

    test('apply refuses what the database refuses, in its words, and writes nothing', async () => {
      await store.apply(manifest({ docker: {} }), signal);
      await expect(store.apply(manifest({ external: {} }), signal)).rejects.toMatchObject({
        class: 'terminal',
        reason: 'InvalidSpec',
        message: expect.stringContaining('is docker and cannot become external under the same name'),
      });
      const nul = { ...manifest({ docker: {} }), metadata: { name: 'alice', labels: { a: '\0' } } };
      await expect(store.apply(nul, signal)).rejects.toMatchObject({ class: 'terminal', reason: 'InvalidSpec' });
      expect(await store.get(ALICE, signal)).toMatchObject({ workspace: { target: { docker: {} }, generation: 1 } });
    });

    test('G-18: half a schema is an error, not half an answer', async () => {
      await store.apply(manifest({ external: {} }), signal);
      await world.direct.sql('drop table plugset.tombstones cascade');
      await expect(store.get(ALICE, signal)).rejects.toMatchObject({ class: 'transient', reason: 'StoreUnavailable' });
      await expect(store.list(signal)).rejects.toMatchObject({ class: 'transient', reason: 'StoreUnavailable' });
    });

    test('a database without the schema says how to make it', async () => {
      const empty = await freshDatabase(address, { migrated: false });
      const database = new PostgresDatabase({ connectionString: empty.url, logger: world.logger });
      const other = new PostgresWorkspaceStore({ database, clock: new SystemClock(), logger: world.logger });
      await expect(other.list(signal)).rejects.toMatchObject({
        reason: 'StoreUnavailable',
        message: expect.stringContaining('plugset run'),
      });
      await database.close();
      await empty.drop();
    });

    test('a statement that takes too long ends, and a hung network too', async () => {
      const database = world.connect({ statementTimeoutMs: 100, poolSize: 1 });
      await expect(database.query('select pg_sleep(60)', [], signal)).rejects.toMatchObject({
        reason: 'StoreUnavailable',
        message: expect.stringContaining('too long'),
      });
      await database.query('select 1', [], signal);
      world.network.blackHole();
      await expect(database.query('select 1', [], signal)).rejects.toMatchObject({ reason: 'StoreUnavailable' });
      world.network.heal();
      expect(await database.query('select 1 as one', [], signal)).toEqual([{ one: 1 }]);
    });

    test('an abort ends a statement at once, and its connection', async () => {
      const database = world.connect({ poolSize: 1 });
      const stop = new AbortController();
      const asleep = database.query('select pg_sleep(60)', [], stop.signal);
      stop.abort(new Error('stopping'));
      await expect(asleep).rejects.toMatchObject({ class: 'aborted' });
      expect(await database.query('select 1 as one', [], signal)).toEqual([{ one: 1 }]);
      await world.direct.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()`,
      );
    });

    const failures: readonly (readonly [string, (url: URL) => void, RegExp])[] = [
      [
        'nothing listens',
        (url) => void (url.port = '1'),
        /at 127\.0\.0\.1:1 \(--database\): nothing listens there; start Postgres/,
      ],
      ['an unknown host', (url) => void (url.hostname = 'host.invalid'), /at host\.invalid:\d+ .*: its host name/],
      [
        'an unknown database',
        (url) => void (url.pathname = '/no-such'),
        /^database no-such at .*: there is no database of that name; make it/,
      ],
      [
        'TLS that is not offered',
        (url) => void (url.search = '?sslmode=verify-full'),
        /TLS is asked for, does it offer that\?$/,
      ],
    ];
    test.each(failures)(
      'an error names the store, where it was named, and what to do: %s',
      async (_, change, message) => {
        const url = new URL(world.direct.url);
        // A server on a socket has no port that could be wrong.
        url.searchParams.delete('host');
        if (url.hostname === '' || url.hostname === 'localhost') url.hostname = '127.0.0.1';
        change(url);
        const { logger } = world;
        const database = new PostgresDatabase({ connectionString: url.href, origin: '--database', logger });
        const error = await database.query('select 1', [], signal).catch((thrown: unknown) => thrown);
        await database.close();
        expect(error).toMatchObject({ class: 'transient', message: expect.stringMatching(message) });
      },
    );

    test('a password is taken out of what the driver and the server say', () => {
      const known = readAddress('postgres://u:hunter%2F2@db/x', undefined);
      expect(known.place).toBe('database x at db:5432');
      const error = classifyPostgresError(new Error('bad: hunter/2, or hunter%2F2'), known, signal);
      expect(everythingIn(error)).toContain('bad: [hidden], or [hidden]');
      expect(everythingIn(error)).not.toContain('hunter');
    });

    test('nothing that is thrown or logged holds the connection string', async () => {
      const secret = 'hunter2-in-the-url';
      const logger = new RecordingLogger();
      const url = new URL(world.direct.url);
      url.password = secret;
      url.username = 'nobody-of-this-name';
      const targets = [url.href, `postgres://u:${secret}@127.0.0.1:1/x`, `postgres://u:${secret}@host.invalid/x`];
      for (const connectionString of targets) {
        const database = new PostgresDatabase({ connectionString, logger, connectTimeoutMs: 2000 });
        const error = await database.query('select 1', [], signal).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ class: 'transient', reason: 'StoreUnavailable' });
        expect(everythingIn(error)).not.toContain(secret);
        await database.close();
      }
      expect(everythingIn(logger.lines)).not.toContain(secret);

      // Written into the host or the database by a character that should have been encoded.
      for (const rest of ['12/34@host/db', '1?x@host/db', '1#x@host/db', 'a/b@host/db']) {
        const mangled = (): PostgresDatabase =>
          new PostgresDatabase({ connectionString: `postgres://${secret}:${rest}`, origin: 'DATABASE_URL', logger });
        const error = await Promise.resolve()
          .then(mangled)
          .catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ class: 'terminal', message: expect.stringMatching(/^DATABASE_URL .*postgres:/) });
        expect(everythingIn(error)).not.toContain(secret);
        expect(everythingIn(error)).not.toContain('host/db');
      }
      const keywords = `host=127.0.0.1 password=${secret}`;
      expect(() => new PostgresDatabase({ connectionString: keywords, logger })).toThrow(
        /does not read as one: postgres:/,
      );

      const broken = (): PostgresDatabase =>
        new PostgresDatabase({ connectionString: `postgres://u:${secret}@[broken/x`, logger });
      expect(broken).toThrow('postgres://user:password@host:port/database');
      expect(
        everythingIn(
          await Promise.resolve()
            .then(broken)
            .catch((thrown: unknown) => thrown),
        ),
      ).not.toContain(secret);
    });
  }),
);

function manifest(target: WorkspaceManifest['spec']['target']): WorkspaceManifest {
  return {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name: 'alice' },
    spec: { runtime: 'hermes', target, plugins: [] },
  };
}

/** Every text in a value, own properties that are not enumerable, causes and stacks included. */
function everythingIn(value: unknown, seen = new Set<unknown>()): string {
  if (typeof value !== 'object' || value === null) return String(value);
  if (seen.has(value)) return '';
  seen.add(value);
  return Object.getOwnPropertyNames(value)
    .map((name) => everythingIn((value as Record<string, unknown>)[name], seen))
    .join('\n');
}
