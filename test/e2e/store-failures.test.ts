import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

await withBackend('postgres', (serverUrl) => {
  describe('a store that cannot be read', () => {
    let database: FreshDatabase;
    let plugset: Plugset;
    let home: string;

    beforeAll(async () => {
      database = await freshDatabase(serverUrl);
      plugset = await startPlugset({ store: { kind: 'postgres', url: database.url } });
      home = join(plugset.dirs.root, 'alice');
      await mkdir(home);
      for (const name of ['a', 'b']) await writePlugin(join(plugset.dirs.registry, name), { 'SKILL.md': `${name}\n` });
      await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('alice', 'hermes', $1)`, [
        { directory: { path: home } },
      ]);
      await database.sql(
        `insert into plugset.plugins (workspace, name, source) values ('alice', 'a', 'a'), ('alice', 'b', 'b')`,
      );
      await plugset.untilReady('alice');
    });

    afterAll(async () => {
      await plugset.stop();
      await database.drop();
    });

    it('removes nothing while it answers with errors, heals nothing either, and goes on when it answers again', async () => {
      // Half of a declaration is gone from sight: the rows are there, what reads them as a whole is not.
      await database.sql('alter function plugset.manifest_of rename to manifest_gone');
      await eventually(() =>
        expect(plugset.logger.lines.some((line) => reasonOf(line.fields) === 'StoreUnavailable')).toBe(true),
      );
      await rm(join(home, 'plugins/a'), { recursive: true });
      const failures = (): number =>
        plugset.logger.lines.filter((line) => reasonOf(line.fields) === 'StoreUnavailable').length;
      const before = failures();
      await eventually(() => expect(failures()).toBeGreaterThan(before + 1));
      expect(await readdir(join(home, 'plugins'))).toEqual(['b']);
      const readyz = async (): Promise<number> => (await fetch(`${await plugset.metricsUrl()}/readyz`)).status;
      expect(await readyz()).toBe(500);

      await database.sql('alter function plugset.manifest_gone rename to manifest_of');
      await eventually(async () => expect((await readdir(join(home, 'plugins'))).toSorted()).toEqual(['a', 'b']));
      await eventually(async () => expect(await readyz()).toBe(200));
    });

    it('I-25: a workspace that becomes reachable without any event is converged all the same', async () => {
      const late = join(plugset.dirs.root, 'late');
      await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('late', 'hermes', $1)`, [
        { directory: { path: late } },
      ]);
      await database.sql(`insert into plugset.plugins (workspace, name, source) values ('late', 'a', 'a')`);
      await plugset.until('late', (status) =>
        expect(status.conditions.find((one) => one.type === 'Reachable')?.reason).toBe('WorkspaceNotFound'),
      );
      // Nobody watches directories: only the level-triggered loop can find this one.
      await mkdir(late);
      await plugset.untilReady('late');
      expect(await readdir(join(late, 'plugins'))).toEqual(['a']);
    });
  });
});

function reasonOf(fields: Readonly<Record<string, unknown>>): unknown {
  return fields['reason'];
}
