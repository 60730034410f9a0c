import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { TargetSpec } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { startDaemon, type Daemon, type Fault } from '../support/daemon.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NEVER = 600_000;
const PROFILES = BUILT_IN_PROFILES.map((profile) =>
  profile.runtime === 'langgraph' ? { ...profile, configDir: { docker: '/opt/configs', directory: 'opt' } } : profile,
);

await withBackend('docker', (engine) => {
  describe('a container whose declaration moves', () => {
    let containers: TestContainers;
    let plugset: Plugset;
    let name: string;
    let count = 0;

    beforeEach(async () => {
      containers = new TestContainers(engine);
      name = `moved-${++count}`;
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: PROFILES,
          probeIntervalMs: NEVER,
          deepIntervalMs: NEVER,
        },
      });
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const create = (volume?: string): Promise<Docker.Container> =>
      containers.create({
        labels: { 'plugset.dev/workspace': `default/${name}` },
        host: { NetworkMode: 'none', Binds: volume === undefined ? [] : [`${volume}:/configs`] },
      });
    const nameOf = async (container: Docker.Container): Promise<string> => (await container.inspect()).Name.slice(1);
    const declare = async (runtime: string, target: TargetSpec): Promise<void> => {
      await plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name },
          spec: { runtime, target, plugins: [{ name: 'one', source: 'one' }] },
        },
        AbortSignal.timeout(60_000),
      );
    };
    const isThere = async (container: Docker.Container, configDir: string): Promise<boolean> =>
      (await containers.exec(container, ['sh', '-c', `ls ${configDir}/plugins 2>/dev/null || true`])).trim() === 'one';

    it('claude-code becomes langgraph: the new config directory has the plugin, the old one no more', async () => {
      const container = await create();
      const target = { docker: { container: await nameOf(container) } };
      await declare('claude-code', target);
      await plugset.untilReady(name);
      await declare('langgraph', target);
      // Not there yet: nothing is taken away before it can be had in the new place.
      await plugset.until(name, (status) =>
        expect(findCondition(status.conditions, 'Ready')?.reason).toBe('ConfigDirMissing'),
      );
      expect(await isThere(container, '/configs')).toBe(true);
      await containers.exec(container, ['mkdir', '-p', '/opt/configs']);
      await plugset.requested(name);
      await plugset.untilReady(name);
      await eventually(async () =>
        expect([await isThere(container, '/opt/configs'), await isThere(container, '/configs')]).toEqual([true, false]),
      );
      const { history, conditions } = await plugset.status(name);
      expect(history[0]?.summary).toMatch(/^removed one .*; in container .*, \/configs$/);
      expect(findCondition(conditions, 'LeftBehind')).toBeUndefined();
    });

    it('another container with the same volume keeps what is on it', async () => {
      const volume = `plugset-test-${name}-${process.pid}`;
      try {
        const [blue, green] = [await create(volume), await create(volume)];
        await declare('claude-code', { docker: { container: await nameOf(blue) } });
        await plugset.untilReady(name);
        await declare('claude-code', { docker: { container: await nameOf(green) } });
        await plugset.untilReady(name);
        const { history, conditions } = await plugset.requested(name);
        expect(findCondition(conditions, 'LeftBehind')).toBeUndefined();
        expect(history).toHaveLength(1);
        expect(await isThere(green, '/configs')).toBe(true);
      } finally {
        await containers.removeAll();
        await containers.docker.getVolume(volume).remove({ force: true });
      }
    });

    it('an old container that stands still is said to be left, and cleaned when it runs again', async () => {
      const [old, young] = [await create(), await create()];
      await declare('claude-code', { docker: { container: await nameOf(old) } });
      await plugset.untilReady(name);
      await old.stop({ t: 1 });
      await declare('claude-code', { docker: { container: await nameOf(young) } });
      await plugset.untilReady(name);
      const { conditions } = await plugset.requested(name);
      expect(findCondition(conditions, 'LeftBehind')?.reason).toBe('WorkspaceNotRunning');
      expect(findCondition(conditions, 'Ready')?.message).toContain('left behind in');
      await old.start();
      const after = await plugset.requested(name);
      expect(findCondition(after.conditions, 'LeftBehind')).toBeUndefined();
      expect([await isThere(young, '/configs'), await isThere(old, '/configs')]).toEqual([true, false]);
    });
  });
});

/** In Postgres a trigger refuses it in the transaction of the edit. */
describe('a workspace in files that is declared with another kind of target', () => {
  it('is refused with what to do, keeps its plugins, and goes on when the old kind is back', async () => {
    const plugset = await startPlugset({ store: { kind: 'files' } });
    try {
      const path = join(plugset.dirs.root, 'alice');
      await mkdir(path);
      await writePlugin(join(plugset.dirs.registry, 'a'), { 'SKILL.md': 'a\n' });
      const declare = (target: TargetSpec): Promise<unknown> =>
        plugset.app.store.apply(
          {
            apiVersion: 'plugset.dev/v1alpha1',
            kind: 'Workspace',
            metadata: { name: 'alice' },
            spec: { runtime: 'claude-code', target, plugins: [{ name: 'a', source: 'a' }] },
          },
          AbortSignal.timeout(60_000),
        );
      await declare({ directory: { path } });
      await plugset.untilReady('alice');
      for (const target of [{ external: {} }, { docker: {} }]) {
        await declare(target);
        const { conditions } = await plugset.until('alice', ({ conditions: now }) =>
          expect(findCondition(now, 'Stalled')).toMatchObject({
            reason: 'TargetKindChanged',
            message: expect.stringContaining(`kind ${Object.keys(target)[0]}`),
          }),
        );
        expect(findCondition(conditions, 'Ready')?.status).toBe('False');
        expect(await readdir(join(path, 'plugins'))).toEqual(['a']);
      }
      await declare({ directory: { path } });
      await plugset.untilReady('alice');
    } finally {
      await plugset.stop();
    }
  });
});

await withBackend('postgres', (serverUrl) => {
  describe('a directory workspace whose path changes, under a daemon that is killed', () => {
    let database: FreshDatabase;
    let plugset: Plugset;
    let daemons: Daemon[];

    beforeEach(async () => {
      database = await freshDatabase(serverUrl);
      // Only its directories, configuration and store are used: the daemons are processes of their own.
      plugset = await startPlugset({
        store: { kind: 'postgres', url: database.url },
        idle: true,
        config: { leaseMs: 1_000 },
      });
      daemons = [];
      for (const place of ['old', 'new']) await mkdir(join(plugset.dirs.root, place));
      await writePlugin(join(plugset.dirs.registry, 'a'), { 'SKILL.md': 'a\n' });
      await database.sql(`insert into plugset.workspaces (name, runtime, target) values ('alice', 'claude-code', $1)`, [
        targetAt('old'),
      ]);
      await database.sql(`insert into plugset.plugins (workspace, name, source) values ('alice', 'a', 'a')`);
    });
    afterEach(async () => {
      for (const daemon of daemons) await kill(daemon);
      await plugset.stop();
      await database.drop();
    });

    const targetAt = (place: string): TargetSpec => ({ directory: { path: join(plugset.dirs.root, place) } });
    const start = async (fault?: Fault): Promise<Daemon> => {
      const daemon = await startDaemon(plugset.config, fault);
      daemons.push(daemon);
      return daemon;
    };
    const kill = async (daemon: Daemon): Promise<void> => {
      daemon.signal('SIGKILL');
      await daemon.ended();
    };
    const installed = async (): Promise<readonly (readonly string[])[]> =>
      Promise.all(
        ['new', 'old'].map((place) => readdir(join(plugset.dirs.root, place, 'plugins')).catch((): string[] => [])),
      );

    // The first converge puts it into the new place, the second takes it away in the old one.
    const moments: readonly (readonly [phase: string, nth: number, afterMs: number])[] = [
      ['locate', 1, 0],
      ['locate', 1, 3],
      ['converge', 1, 0],
      ['converge', 1, 20],
      ['converge', 2, 0],
      ['converge', 2, 10],
      ['report', 1, 0],
    ];
    it.each(moments)(
      'kill -9 in %s number %i, %i ms in: it is in one place at least, and in the end in the new one',
      async (phase, nth, afterMs) => {
        const first = await start();
        await plugset.untilReady('alice');
        await kill(first);
        await database.sql(`update plugset.workspaces set target = $1 where name = 'alice'`, [targetAt('new')]);
        const second = await start({ phase, nth, signal: 'SIGKILL', afterMs });
        await second.ended();
        expect(await installed()).toContainEqual(['a']);
        await start();
        await eventually(async () => expect(await installed()).toEqual([['a'], []]));
        const { conditions } = await plugset.untilReady('alice');
        expect(findCondition(conditions, 'LeftBehind')).toBeUndefined();
      },
    );
  });
});
