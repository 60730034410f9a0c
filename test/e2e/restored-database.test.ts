import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { openApp } from '../../src/app.ts';
import { ADVICE } from '../../src/domain/advice.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { Terminal } from '../support/terminal.ts';

const PLUGINS = ['one', 'two', 'three'];

await withBackend('postgres', (serverUrl) => {
  describe('a database that is not what it was', () => {
    let database: FreshDatabase;
    let plugset: Plugset;

    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
      plugset = await startPlugset({ store: { kind: 'postgres', url: database.url }, idle: true });
      for (const plugin of PLUGINS)
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': `${plugin}\n` });
      for (const name of ['alice', 'bob']) {
        await mkdir(join(plugset.dirs.root, name));
        await database.sql(`insert into plugset.workspaces (name, runtime, target) values ($1, 'hermes', $2)`, [
          name,
          { directory: { path: join(plugset.dirs.root, name) } },
        ]);
        await database.sql(
          `insert into plugset.plugins (workspace, name, source) values ($1, 'one', 'one'), ($1, 'two', 'two')`,
          [name],
        );
      }
      await running(async () => {
        for (const name of ['alice', 'bob']) await plugset.untilReady(name);
      });
    });
    afterEach(async () => {
      await plugset.stop();
      await database.drop();
    });

    /** A controller from its start to its orderly end. */
    const running = async (work: () => Promise<unknown>): Promise<void> => {
      const app = await openApp(plugset.config, new RecordingLogger());
      const stop = new AbortController();
      const ended = app.run(stop.signal);
      try {
        await work();
      } finally {
        stop.abort(new Error('enough'));
        await ended;
        await app.close();
      }
    };
    const untilInstalled = (name: string, ...plugins: readonly string[]): Promise<void> =>
      eventually(async () => {
        const installed = await readdir(join(plugset.dirs.root, name, 'plugins'));
        expect(installed.toSorted()).toEqual(plugins.toSorted());
      });

    it('restored from an older dump, it says again what it said then, and no target refuses who it says leads', async () => {
      const dump = await dumpOf(database);
      await running(async () => {
        await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'three', 'three')`);
        await database.sql(`delete from plugset.workspaces where name = 'bob'`);
        await untilInstalled('alice', ...PLUGINS);
        await untilInstalled('bob');
      });
      await dump.restore();
      await running(async () => {
        await untilInstalled('alice', 'one', 'two');
        await untilInstalled('bob', 'one', 'two');
        for (const name of ['alice', 'bob']) expect((await plugset.requested(name)).summary).toBe('2/2');
      });
    });

    it('restored from before its lease was made anew, it is refused with the way on, and that way leads on', async () => {
      const dump = await dumpOf(database);
      await database.sql('delete from plugset.leases');
      await running(async () => {
        await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'three', 'three')`);
        await untilInstalled('alice', ...PLUGINS);
      });
      await dump.restore();
      await running(async () => {
        await plugset.until('alice', (status) =>
          expect(findCondition(status.conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'StaleFence' }),
        );
        await untilInstalled('alice', ...PLUGINS);
        expect(ADVICE.StaleFence).toContain('delete its lease (the row of plugset.leases');
        await database.sql('delete from plugset.leases');
        await untilInstalled('alice', 'one', 'two');
        expect((await plugset.requested('alice')).summary).toBe('2/2');
      });
    });

    it('restored under a controller that went on writing for a moment, it is not locked out', async () => {
      // What its old term wrote after the restore names a later life of the lease than the restored row does.
      await database.sql(`update plugset.leases set epoch = epoch - 86400000, expires_at = now()`);
      await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'three', 'three')`);
      await running(async () => {
        await untilInstalled('alice', ...PLUGINS);
        expect((await plugset.requested('alice')).summary).toBe('3/3');
      });
    });

    it('moved without what it remembered of itself, it is refused with the way on, and that way leads on', async () => {
      await database.sql(`update plugset.meta set value = 'made-anew' where key = 'authority'`);
      await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'three', 'three')`);
      await running(async () => {
        const { conditions } = await plugset.until('alice', (status) =>
          expect(findCondition(status.conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'ForeignOwner' }),
        );
        await untilInstalled('alice', 'one', 'two');
        const said = findCondition(conditions, 'Ready')?.message ?? '';
        const [, command = ''] = /plugset (takeover default\/alice --from \S+)/.exec(said) ?? [];
        const { code, stderr } = await new Terminal().run([...command.split(' '), '--database', database.url]);
        expect(code, `${said}\n${stderr}`).toBe(0);
        await plugset.untilReady('alice');
        await untilInstalled('alice', ...PLUGINS);
      });
    });
  });
});

/** As pg_restore does it: all rows of all tables, and no trigger sees it. */
async function dumpOf(database: FreshDatabase): Promise<{ restore(): Promise<unknown> }> {
  const tables = (
    await database.sql<{ name: string }>(
      `select table_name as name from information_schema.tables where table_schema = 'plugset' and table_type = 'BASE TABLE'`,
    )
  ).map(({ name }) => name);
  await database.sql(
    `create schema dump; ${tables.map((name) => `create table dump.${name} as table plugset.${name};`).join('\n')}`,
  );
  return {
    restore: () =>
      database.sql(`
        begin;
        set local session_replication_role = replica;
        truncate ${tables.map((name) => `plugset.${name}`).join(', ')};
        ${tables.map((name) => `insert into plugset.${name} overriding system value table dump.${name};`).join('\n')}
        commit`),
  };
}
