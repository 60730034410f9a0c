import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { tempDir } from '../support/temp-dir.ts';
import { Terminal } from '../support/terminal.ts';

const PLUGINS = ['a', 'b', 'c', 'd'];
const FLEET = ['w1', 'w2', 'w3', 'w4'];

await withBackend('postgres', (serverUrl) => {
  describe("workspaces in a platform's own tables", () => {
    let database: FreshDatabase;
    let plugset: Plugset;

    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
      await database.sql(`
        create table public.workspaces (
          id uuid primary key default gen_random_uuid(), name text not null, runtime text not null default 'hermes',
          instance_id text, home text, on_delete text, deleted_at timestamptz);
        create table public.workspace_declared_plugins (
          workspace_id uuid not null references public.workspaces on delete cascade, plugin_name text not null,
          source_raw text not null, primary key (workspace_id, plugin_name))`);
      plugset = await startPlugset({
        store: {
          kind: 'postgres',
          url: database.url,
          query: {
            workspaces: `
              select id, name, runtime, home as directory_path, jsonb_build_object('deletion', on_delete) as policy
                from public.workspaces where deleted_at is null`,
            plugins: `
              select workspace_id, plugin_name as name, source_raw as source from public.workspace_declared_plugins`,
            intervalMs: 200,
            channel: 'workspaces_changed',
            allowEmpty: false,
          },
        },
        config: { guards: { ...DEFAULT_GUARDS, emptiedPerHour: 2 } },
      });
      for (const plugin of PLUGINS)
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': `${plugin}\n` });
      for (const name of FLEET) await insert(name);
      await database.sql(
        `insert into public.workspace_declared_plugins select id, p, p from public.workspaces, unnest($1::text[]) p`,
        [PLUGINS],
      );
      for (const name of FLEET) await plugset.until(name, ({ summary }) => expect(summary).toBe('4/4'));
    });
    afterEach(async () => {
      await plugset.stop();
      await database.drop();
    });

    async function insert(name: string): Promise<void> {
      const home = join(plugset.dirs.root, name);
      await mkdir(home);
      await database.sql(`insert into public.workspaces (name, home, on_delete) values ($1, $2, 'Remove')`, [
        name,
        home,
      ]);
    }

    const installed = (name: string): Promise<readonly string[]> =>
      readdir(join(plugset.dirs.root, name, 'plugins')).then((names) => names.toSorted());
    const reasonOf = async (name: string): Promise<string | undefined> =>
      findCondition((await plugset.status(name)).conditions, 'Ready')?.reason;
    const total = async (): Promise<number> =>
      (await Promise.all(FLEET.map((name) => installed(name)))).reduce((sum, names) => sum + names.length, 0);

    it('follows them: inserted, changed, taken out, and soft-deleted rows', async () => {
      expect(await installed('w1')).toEqual(PLUGINS);
      await writePlugin(join(plugset.dirs.registry, 'e'), { 'SKILL.md': 'e\n' });
      await database.sql(`
        update public.workspace_declared_plugins set source_raw = 'local://e'
         where plugin_name = 'a' and workspace_id = (select id from public.workspaces where name = 'w1')`);
      await eventually(async () =>
        expect(await readFile(join(plugset.dirs.root, 'w1/plugins/a/SKILL.md'), 'utf8')).toBe('e\n'),
      );
      await database.sql(`
        delete from public.workspace_declared_plugins
         where plugin_name = 'b' and workspace_id = (select id from public.workspaces where name = 'w1')`);
      await eventually(async () => expect(await installed('w1')).toEqual(['a', 'c', 'd']));

      await database.sql(`update public.workspaces set deleted_at = now() where name = 'w1'`);
      await eventually(async () => expect(await installed('w1')).toEqual([]));
      await eventually(async () =>
        expect(await database.sql(`select name from plugset.declarations where name = 'w1'`)).toEqual([]),
      );
      expect(await database.sql(`select ready, reason, summary from plugset.status where name = 'w2'`)).toEqual([
        { ready: 'True', reason: 'Succeeded', summary: '4/4' },
      ]);
    });

    it('a DELETE of plugins whose WHERE is too wide takes no more than the caps allow, until it is undone', async () => {
      const isKept = `plugin_name = 'a' and workspace_id = (select id from public.workspaces where name = 'w4')`;
      await database.sql(
        `create table public.gone as select * from public.workspace_declared_plugins where not (${isKept})`,
      );
      await database.sql(`delete from public.workspace_declared_plugins where not (${isKept})`);
      for (const name of FLEET.slice(0, 3))
        await eventually(async () => expect(await reasonOf(name)).toBe('PruneHeld'));
      for (const name of FLEET.slice(0, 3)) expect(await installed(name)).toEqual(PLUGINS);
      await database.sql('insert into public.workspace_declared_plugins table public.gone');
      for (const name of FLEET) await plugset.until(name, ({ summary }) => expect(summary).toBe('4/4'));
      for (const name of FLEET) await plugset.untilReady(name);
    });

    it.each([
      ['workspaces', /workspaces came back empty, and 4 were declared.*what was read last stands/],
      [
        'workspace_declared_plugins',
        /plugins came back empty, and 4 workspaces had plugins.*what was read last stands/,
      ],
    ])('a DELETE of all %s without its WHERE takes nothing, and is said', async (table, saying) => {
      const tables = ['workspaces', 'workspace_declared_plugins'];
      for (const one of tables) await database.sql(`create table public.${one}_kept as table public.${one}`);
      await database.sql(`delete from public.${table}`);
      await eventually(() =>
        expect(plugset.logger.at('error').map(({ message }) => message)).toContainEqual(expect.stringMatching(saying)),
      );
      for (const name of FLEET) await plugset.requested(name);
      expect(await total()).toBe(FLEET.length * PLUGINS.length);

      const answer = async (path: string): Promise<string> =>
        (await fetch(`${await plugset.metricsUrl()}${path}`)).text();
      expect(await answer('/readyz')).toContain('came back empty');
      expect(await answer('/metrics')).not.toMatch(/^plugset_workspaces\{/m);
      for (const one of tables)
        await database.sql(`insert into public.${one} table public.${one}_kept on conflict do nothing`);
      await eventually(async () =>
        expect(await answer('/metrics')).toMatch(/^plugset_workspaces\{ready="True"[^}]*\} \d/m),
      );
    });

    it('of a fleet that is gone but for one, no more are emptied than the hourly cap allows', async () => {
      await database.sql(`delete from public.workspaces where name <> 'w4'`);
      const gone = FLEET.slice(0, 3);
      await eventually(async () => {
        const emptied = await Promise.all(gone.map(async (name) => (await installed(name)).length === 0));
        expect(emptied.filter(Boolean)).toHaveLength(2);
      });
      await eventually(async () =>
        expect(await database.sql(`select reason from plugset.status where name <> 'w4'`)).toEqual([
          { reason: 'Deleting: PruneHeld' },
        ]),
      );
      expect(await installed('w4')).toEqual(PLUGINS);
    });
  });

  describe("commands on a platform's own tables", () => {
    let database: FreshDatabase;
    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
    });
    afterEach(async () => {
      vi.unstubAllEnvs();
      await database.drop();
    });

    it('plan shows an edit that no daemon has read; once carries it out; apply and delete say where to go', async () => {
      const dir = await tempDir();
      const home = join(dir, 'root/alice');
      await mkdir(home, { recursive: true });
      await writePlugin(join(dir, 'registry/superpowers'), { 'SKILL.md': 'one\n' });
      await writeFile(
        join(dir, 'plugset.yaml'),
        `apiVersion: plugset.dev/v1alpha1
kind: Configuration
store:
  postgres:
    query:
      workspaces: select name, 'hermes' as runtime, home as directory_path from public.agents
      plugins: select agent as workspace, plugin as name, plugin as source from public.agent_plugins;
targets: {directory: {roots: [{path: root}]}}
sources: {registries: [registry], cacheDirectory: cache}
`,
      );
      vi.stubEnv('DATABASE_URL', database.url);
      vi.stubEnv('PLUGSET_CONFIG', join(dir, 'plugset.yaml'));
      vi.stubEnv('PLUGSET_FILES', '');
      const terminal = new Terminal();
      await database.sql(
        `create table public.agents (name text, home text); create table public.agent_plugins (agent text, plugin text)`,
      );
      await database.sql(`insert into public.agents values ('alice', $1)`, [home]);
      await database.sql(`insert into public.agent_plugins values ('alice', 'superpowers')`);

      expect((await terminal.run(['plan'])).stdout).toMatch(/\+ install +superpowers/);
      expect(await database.sql('select * from plugset.declarations')).toEqual([]);
      expect(await terminal.run(['once'])).toMatchObject({ code: 0 });
      expect(await readdir(join(home, 'plugins'))).toEqual(['superpowers']);
      expect((await terminal.run(['status'])).stdout).toMatch(/alice.*1\/1/);

      await database.sql('delete from public.agent_plugins');
      expect((await terminal.run(['plan'])).stdout).toMatch(/- remove +superpowers/);
      await terminal.run(['once']);
      expect(await readdir(join(home, 'plugins'))).toEqual([]);

      const manifest = (await terminal.run(['status', 'alice', '-o', 'yaml'])).stdout;
      for (const argv of [
        ['apply', '-f', '-'],
        ['delete', 'alice'],
      ])
        expect(await terminal.run(argv, manifest)).toMatchObject({
          code: 1,
          stderr: expect.stringContaining('change it in your platform'),
        });
    });
  });
});
