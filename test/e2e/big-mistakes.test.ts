import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { Terminal } from '../support/terminal.ts';

const PLUGINS = ['a', 'b', 'c', 'd', 'e'];
const FLEET = Array.from({ length: 8 }, (_, index) => `w${index}`);

/** What a slip in psql must not do to a fleet. */
await withBackend('postgres', (serverUrl) => {
  describe('a statement without its WHERE', () => {
    let database: FreshDatabase;
    let plugset: Plugset;
    const terminal = new Terminal();

    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
      plugset = await startPlugset({
        store: { kind: 'postgres', url: database.url },
        config: { guards: { ...DEFAULT_GUARDS, emptiedPerHour: 2 } },
      });
      for (const plugin of PLUGINS)
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': `${plugin}\n` });
      for (const name of FLEET) {
        await mkdir(join(plugset.dirs.root, name));
        await database.sql(`insert into plugset.workspaces (name, runtime, target) values ($1, 'hermes', $2)`, [
          name,
          { directory: { path: join(plugset.dirs.root, name) } },
        ]);
      }
      await database.sql(
        `insert into plugset.plugins (workspace, name, source)
         select w.name, p, p from plugset.workspaces w cross join unnest($1::text[]) p`,
        [PLUGINS],
      );
      for (const name of FLEET) await plugset.untilReady(name);
    });
    afterEach(async () => {
      await plugset.stop();
      await database.drop();
    });

    const installed = async (name: string): Promise<readonly string[]> =>
      (await readdir(join(plugset.dirs.root, name, 'plugins'))).toSorted();
    const untilHeld = (name: string): Promise<unknown> =>
      plugset.until(name, ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'PruneHeld' }),
      );
    const gauge = async (reason: string): Promise<number> => {
      const body = await (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
      return Number(
        new RegExp(`^plugset_reason_workspaces\\{[^}]*reason="${reason}"[^}]*\\} (\\d+)`, 'm').exec(body)?.[1],
      );
    };

    it('on the plugins removes nothing, shows up in the metrics, and is undone by undoing it', async () => {
      await database.sql('create table saved as select * from plugset.plugins');
      await database.sql('delete from plugset.plugins');
      for (const name of FLEET) await untilHeld(name);
      for (const name of FLEET) expect(await installed(name)).toEqual(PLUGINS);
      await eventually(async () => expect(await gauge('PruneHeld')).toBe(FLEET.length));

      // One of them is meant: agreed to by the id of its plan.
      const { planId = '' } = await plugset.status('w0');
      expect((await terminal.run(['approve', 'w0', planId, '--database', database.url])).code).toBe(0);
      await plugset.untilReady('w0');
      expect(await installed('w0')).toEqual([]);

      await database.sql(`insert into plugset.plugins select * from saved where workspace <> 'w0'`);
      for (const name of FLEET) await plugset.untilReady(name);
      for (const name of FLEET.slice(1)) expect(await installed(name)).toEqual(PLUGINS);
    });

    it('bit by bit takes no more of a workspace away than at once', async () => {
      await database.sql(`delete from plugset.plugins where name in ('a', 'b')`);
      for (const name of FLEET) await plugset.untilReady(name);
      await database.sql(`delete from plugset.plugins where name in ('c', 'd')`);
      for (const name of FLEET) await untilHeld(name);
      for (const name of FLEET) expect(await installed(name)).toEqual(['c', 'd', 'e']);
      const { conditions } = await plugset.status('w0');
      expect(findCondition(conditions, 'Ready')?.message).toContain('4 of 5 plugins would be removed within an hour');
    });

    it('on the workspaces empties no more of them than the fleet may lose in an hour', async () => {
      await database.sql('delete from plugset.workspaces');
      const left = async (): Promise<readonly string[]> => {
        const rows = await database.sql<{ name: string }>('select name from plugset.tombstones order by name');
        return rows.map(({ name }) => name);
      };
      await eventually(async () => expect(await left()).toHaveLength(FLEET.length - 2));
      const kept = await left();
      for (const name of kept) await untilHeld(name);
      for (const name of kept) expect(await installed(name)).toEqual(PLUGINS);
      await plugset.requested(kept[0] ?? '');
      expect(await left()).toEqual(kept);
    });
  });
});
