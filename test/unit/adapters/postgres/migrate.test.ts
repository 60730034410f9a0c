import { readdirSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { migrate, prepareSchema } from '../../../../src/adapters/postgres/migrate.ts';
import { PostgresDatabase } from '../../../../src/adapters/postgres/postgres-database.ts';
import { withBackend } from '../../../support/backend.ts';
import { freshDatabase, type FreshDatabase } from '../../../support/fresh-database.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const OURS = new URL('../../../../src/adapters/postgres/migrations/', import.meta.url);
const ALL = readdirSync(OURS).map((_, index) => index + 1);
const NEXT = ALL.length + 1;
const NEXT_FILE = `${String(NEXT).padStart(4, '0')}_more.sql`;

await withBackend('postgres', (address) =>
  describe('migrate', () => {
    let fresh: FreshDatabase;
    let database: PostgresDatabase;
    let directory: string;
    const signal = new AbortController().signal;

    beforeEach(async () => {
      fresh = await freshDatabase(address, { migrated: false });
      database = new PostgresDatabase({ connectionString: fresh.url, logger: new RecordingLogger() });
      directory = await mkdtemp(join(tmpdir(), 'plugset-migrations-'));
    });
    afterEach(async () => {
      await database.close();
      await fresh.drop();
      await rm(directory, { recursive: true });
    });

    const run = (): Promise<readonly number[]> =>
      migrate(database, signal, { directory: pathToFileURL(`${directory}/`) });
    const tables = async (): Promise<string[]> =>
      (
        await fresh.sql<{ name: string }>(
          `select tablename as name from pg_tables where schemaname = 'plugset' order by 1`,
        )
      ).map(({ name }) => name);

    test('makes the schema, and does nothing the second time', async () => {
      expect(await migrate(database, signal)).toEqual(ALL);
      expect(await tables()).toContain('workspaces');
      expect(await migrate(database, signal)).toEqual([]);
    });

    test('runners that start at once take turns', async () => {
      const others = Array.from(
        { length: 4 },
        () => new PostgresDatabase({ connectionString: fresh.url, logger: new RecordingLogger() }),
      );
      const applied = await Promise.all(others.map((other) => migrate(other, signal)));
      expect(applied.flat().toSorted((a, b) => a - b)).toEqual(ALL);
      await Promise.all(others.map((other) => other.close()));
    });

    test('a database from an older build gets what is missing', async () => {
      await cp(OURS, directory, { recursive: true });
      await run();
      await writeFile(join(directory, NEXT_FILE), 'create table plugset.more (id int)');
      expect(await run()).toEqual([NEXT]);
      expect(await tables()).toContain('more');
    });

    test('a database from a newer build is refused and left alone', async () => {
      await cp(OURS, directory, { recursive: true });
      await writeFile(join(directory, NEXT_FILE), 'create table plugset.more (id int)');
      await run();
      await expect(migrate(database, signal)).rejects.toMatchObject({
        class: 'terminal',
        reason: 'StoreUnavailable',
        message: expect.stringMatching(
          new RegExp(
            `^database test_\\w+ at .* was migrated by a newer plugset \\(schema ${NEXT}, this one knows ${NEXT - 1}\\): upgrade this binary$`,
          ),
        ),
      });
    });

    describe('for a command that only looks', () => {
      const check = (): Promise<readonly number[]> =>
        prepareSchema(database, 'check', signal, { directory: pathToFileURL(`${directory}/`) });
      const refused = (message: RegExp): unknown =>
        expect.objectContaining({
          class: 'terminal',
          reason: 'StoreUnavailable',
          message: expect.stringMatching(message),
        });

      test('a database without a schema stays without one, and is told how to get it', async () => {
        await expect(prepareSchema(database, 'check', signal)).rejects.toEqual(
          refused(
            /^database test_\w+ at .* holds nothing of plugset yet.*`plugset run`, or `plugset apply` .* makes them$/,
          ),
        );
        expect(await tables()).toEqual([]);
      });

      test('an older schema stays as it is, and a newer one is no puzzle', async () => {
        await cp(OURS, directory, { recursive: true });
        await run();
        await writeFile(join(directory, NEXT_FILE), 'create table plugset.more (id int)');
        await expect(check()).rejects.toEqual(
          refused(new RegExp(`older plugset \\(schema ${NEXT - 1}, this one knows ${NEXT}\\).*\`plugset run\``)),
        );
        expect(await tables()).not.toContain('more');
        await run();
        expect(await check()).toEqual([]);
        await expect(prepareSchema(database, 'check', signal)).rejects.toEqual(refused(/upgrade this binary$/));
      });
    });

    test("the first apply makes the schema where there is none, and upgrades nobody else's", async () => {
      await cp(OURS, directory, { recursive: true });
      const create = (): Promise<readonly number[]> =>
        prepareSchema(database, 'create', signal, { directory: pathToFileURL(`${directory}/`) });
      expect(await create()).toEqual(ALL);
      expect(await create()).toEqual([]);
      await writeFile(join(directory, NEXT_FILE), 'create table plugset.more (id int)');
      await expect(create()).rejects.toThrow(/older plugset/);
      expect(await tables()).not.toContain('more');
    });

    test('a migration whose text was changed after it was applied is refused', async () => {
      await cp(OURS, directory, { recursive: true });
      const first = join(directory, '0001_workspaces.sql');
      await run();
      const text = await readFile(first, 'utf8');
      await writeFile(first, `${text}\n-- one more thought`);
      await writeFile(join(directory, NEXT_FILE), 'create table plugset.more (id int)');
      await expect(run()).rejects.toMatchObject({
        class: 'terminal',
        message: expect.stringMatching(/migration 1 \(workspaces\).*another text/),
      });
      expect(await tables()).not.toContain('more');

      await writeFile(first, text.replaceAll('\n', '\r\n'));
      expect(await run()).toEqual([NEXT]);
    });

    test('a migration that fails leaves those before it and nothing of itself', async () => {
      await writeFile(join(directory, '0001_one.sql'), 'create table plugset.one (id int)');
      await writeFile(join(directory, '0002_two.sql'), 'create table plugset.two (id int); select 1/0');
      await expect(run()).rejects.toMatchObject({ reason: 'StoreUnavailable' });
      expect(await tables()).toEqual(['migrations', 'one']);
      await writeFile(join(directory, '0002_two.sql'), 'create table plugset.two (id int)');
      expect(await run()).toEqual([2]);
    });

    test('a gap in the numbers is a fault of the build', async () => {
      await writeFile(join(directory, '0002_two.sql'), 'select 1');
      await expect(run()).rejects.toMatchObject({ class: 'terminal', reason: 'Internal' });
    });

    test('an up-to-date schema needs no privilege to create', async () => {
      await migrate(database, signal);
      const role = `reader_${randomBytes(4).toString('hex')}`;
      await fresh.sql(
        `create role ${role} login password 'secret'; grant usage on schema plugset to ${role}; grant select on plugset.migrations to ${role}`,
      );
      const url = new URL(fresh.url);
      url.username = role;
      url.password = 'secret';
      const limited = new PostgresDatabase({ connectionString: url.href, logger: new RecordingLogger() });
      expect(await migrate(limited, signal)).toEqual([]);
      expect(await prepareSchema(limited, 'check', signal)).toEqual([]);
      await limited.close();
      await fresh.sql(`drop owned by ${role}; drop role ${role}`);
    });
  }),
);
