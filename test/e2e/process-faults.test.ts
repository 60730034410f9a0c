import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { startDaemon, turnOf, type Daemon, type Fault } from '../support/daemon.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { contentOf, wholeTree } from '../support/whole-trees.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

/** A lease so long that a daemon on a busy machine keeps it. */
const KEPT_MS = 15_000;
/** One that nobody loses while a test runs. */
const ENDLESS_MS = 600_000;

await withBackend('postgres', (serverUrl) => {
  describe('a daemon that is killed, frozen or joined by another', () => {
    let database: FreshDatabase;
    let home: string;
    let plugset: Plugset;
    let daemons: Daemon[];

    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
      // Only its directories, configuration and store are used: the daemons are processes of their own.
      plugset = await startPlugset({
        store: { kind: 'postgres', url: database.url },
        idle: true,
        // For those that wait until one who is dead has lost it. One on a busy machine may lose it too.
        config: { leaseMs: 1_000 },
      });
      daemons = [];
      home = join(plugset.dirs.root, 'alice');
      await mkdir(home);
      await writePlugin(join(plugset.dirs.registry, 'a'), wholeTree('one'));
      await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', $1)`, [
        { directory: { path: home } },
      ]);
      await database.sql(
        `insert into plugset.plugins (workspace, name, source) values ('alice', 'a', 'a'), ('alice', 'b', 'a')`,
      );
    });

    afterEach(async () => {
      for (const daemon of daemons) {
        daemon.signal('SIGKILL');
        await daemon.ended();
      }
      await plugset.stop();
      await database.drop();
    });

    const start = async (fault?: Fault, leaseMs = plugset.config.leaseMs): Promise<Daemon> => {
      const daemon = await startDaemon({ ...plugset.config, leaseMs }, fault);
      daemons.push(daemon);
      return daemon;
    };
    const installed = (name: string): Promise<string | undefined> => contentOf(join(home, 'plugins', name));
    const untilBoth = (content: string): Promise<void> =>
      eventually(async () => expect([await installed('a'), await installed('b')]).toEqual([content, content]));

    const moments: readonly Fault[] = [
      ...['load', 'locate', 'resolve', 'probe', 'observe', 'plan', 'converge', 'report'].map((phase): Fault => ({
        phase,
        nth: 1,
        signal: 'SIGKILL',
        afterMs: 0,
      })),
      ...[5, 15, 30, 60].map((afterMs): Fault => ({ phase: 'converge', nth: 1, signal: 'SIGKILL', afterMs })),
    ];
    it.each(moments)(
      'kill -9 at $phase, $afterMs ms in: whole trees at once, and the next one converges',
      async (fault) => {
        const first = await start(fault);
        await first.ended();
        expect([undefined, 'one']).toContain(await installed('a'));
        expect([undefined, 'one']).toContain(await installed('b'));
        await start();
        await untilBoth('one');
        await plugset.untilReady('alice');
      },
    );

    it('one acts; when it is killed the other takes over', async () => {
      const first = await start(undefined, KEPT_MS);
      await first.line((line) => line.message === 'leading');
      const second = await start(undefined, KEPT_MS);
      await second.line((line) => line.message.startsWith('standing by'));
      await untilBoth('one');
      expect(second.lines.some((line) => line.message === 'phase')).toBe(false);
      first.signal('SIGKILL');
      await second.line((line) => line.message === 'leading');
      await writePlugin(join(plugset.dirs.registry, 'a'), wholeTree('two'));
      await untilBoth('two');
    });

    it('frozen in the middle of a pass and revived after another took over, it is refused on the target by the fence', async () => {
      // A lease so long that the first one, when it wakes, has no reason to doubt it: only the target can stop it.
      const first = await start({ phase: 'converge', nth: 1, signal: 'SIGSTOP' }, ENDLESS_MS);
      await first.line((line) => line.message === 'phase' && line['phase'] === 'converge');
      await database.sql('update plugset.leases set expires_at = now()');
      const second = await start(undefined, ENDLESS_MS);
      await untilBoth('one');
      await writePlugin(join(plugset.dirs.registry, 'a'), wholeTree('two'));
      await untilBoth('two');
      // The trees stand before the apply has ended, and until then its lock alone would keep the first one out.
      await plugset.until('alice', (status) => expect(status.intentional).toBe(4));
      first.signal('SIGCONT');
      await first.line((line) => line.message.startsWith('the target refused a write'));
      expect(await readFile(join(home, '.plugset/fence'), 'utf8')).toContain(` ${turnOf(second)}`);
      expect([await installed('a'), await installed('b')]).toEqual(['two', 'two']);
      const [row] = await database.sql<{ ready: string }>(`select ready from plugset.status where name = 'alice'`);
      expect(row?.ready, 'the status is the new leader’s').toBe('True');
    });
  });
});
