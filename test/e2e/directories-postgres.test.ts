import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

await withBackend('postgres', (serverUrl) => {
  describe('directories declared in Postgres', () => {
    let database: FreshDatabase;
    let plugset: Plugset;

    beforeAll(async () => {
      database = await freshDatabase(serverUrl);
      plugset = await startPlugset({ store: { kind: 'postgres', url: database.url } });
      await writePlugin(join(plugset.dirs.registry, 'superpowers'), {
        'plugin.yaml': 'name: superpowers\nversion: 1.0.0\n',
        'skills/debug/SKILL.md': '# Debug\n',
        'hooks/start.sh': '#!/bin/sh\necho hi\n',
      });
    });

    afterAll(async () => {
      await plugset.stop();
      await database.drop();
    });

    it('follows a person with psql: rows become files, status and metrics; deleted rows go again', async () => {
      const home = join(plugset.dirs.root, 'alice');
      await mkdir(home);
      await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', $1)`, [
        { directory: { path: home } },
      ]);
      await database.sql(
        `insert into plugset.plugins (workspace, name, source) values ('alice', 'superpowers', 'superpowers')`,
      );
      await plugset.until('alice', (status) => expect(status).toMatchObject({ summary: '1/1' }));
      expect(await readFile(join(home, 'plugins/superpowers/skills/debug/SKILL.md'), 'utf8')).toBe('# Debug\n');
      const [row] = await database.sql(`select ready, summary from plugset.status where name = 'alice'`);
      expect(row).toMatchObject({ ready: 'True', summary: '1/1' });
      const scrape = async (): Promise<string> => (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
      expect(await scrape()).toMatch(/plugset_plugin_changes_total\{action="install",cause="intentional"\} 1/);
      expect(await scrape()).toMatch(/plugset_workspace_ready\{[^}]*name="alice"[^}]*\} 1/);

      await database.sql(`delete from plugset.workspaces where name = 'alice'`);
      await eventually(async () => expect(await readdir(join(home, 'plugins'))).toEqual([]));
      await eventually(async () => expect(await database.sql('select * from plugset.tombstones')).toEqual([]));
      await eventually(async () => expect(await scrape()).not.toMatch(/name="alice"/));
    });
  });
});
