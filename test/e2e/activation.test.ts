import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { Policy } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers, type TestContainerOptions } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NEVER = 600_000;
const QUICK = { quietMs: 1_000, patienceMs: 6_000, perHour: 2 };

/** Restarts of real containers. When they are due is tried without waiting in test/unit/domain/activation.test.ts. */
await withBackend('docker', (engine) => {
  describe('a container whose plugins changed', () => {
    let containers: TestContainers;
    let plugset: Plugset;
    let name: string;
    let count = 0;

    beforeEach(async () => {
      containers = new TestContainers(engine);
      name = `restarted-${++count}`;
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0, rereads: ['notes/**'] })),
          activation: QUICK,
          probeIntervalMs: NEVER,
          deepIntervalMs: NEVER,
        },
      });
      for (const plugin of ['one', 'two', 'three'])
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': `${plugin}\n` });
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const create = (options: TestContainerOptions = {}): Promise<Docker.Container> =>
      containers.create({ labels: { 'plugset.dev/workspace': `default/${name}` }, ...options });
    /** `NAME` or `NAME=SOURCE`. */
    const apply = async (plugins: readonly string[], policy: Partial<Policy> = {}): Promise<void> => {
      await plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name },
          spec: {
            runtime: 'claude-code',
            target: { docker: {} },
            plugins: plugins.map((plugin) => {
              const [called = '', source = called] = plugin.split('=');
              return { name: called, source };
            }),
            policy,
          },
        },
        AbortSignal.timeout(60_000),
      );
    };
    const declare = async (...declared: Parameters<typeof apply>): Promise<void> => {
      await apply(...declared);
      await plugset.untilReady(name);
    };
    const startedAt = async (container: Docker.Container): Promise<string> =>
      (await container.inspect()).State.StartedAt;
    const untilActivation = (reason: string | undefined): Promise<unknown> =>
      plugset.until(name, (status) =>
        expect(findCondition(status.conditions, 'ActivationPending')?.reason).toBe(reason),
      );
    const restarts = (): number => plugset.logger.lines.filter((line) => line.message.startsWith('restarting')).length;

    it('is restarted once for all of them, and not for what it has taken up', async () => {
      const container = await create();
      const before = await startedAt(container);
      await apply(['one', 'two']);
      await declare(['one', 'three']);
      await eventually(async () => expect(await startedAt(container)).not.toBe(before));
      await untilActivation(undefined);
      expect(restarts()).toBe(1);
      const after = await startedAt(container);
      await plugset.requested(name);
      await plugset.requested(name);
      expect(await startedAt(container)).toBe(after);
      expect(await containers.exec(container, ['cat', '/configs/plugins/three/SKILL.md'])).toBe('three\n');
    });

    it('G-08: is not restarted for an upgrade of files that its runtime rereads, and is for one file more', async () => {
      const container = await create();
      const install = async (notes: string, skill: string): Promise<void> => {
        await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': skill, 'notes/deep/a.md': notes });
        await declare(['one']);
        await eventually(async () => {
          await plugset.requested(name);
          expect(await containers.exec(container, ['cat', '/configs/plugins/one/notes/deep/a.md'])).toBe(notes);
        });
      };
      await install('old\n', 'one\n');
      await eventually(() => expect(restarts()).toBe(1));
      await untilActivation(undefined);
      const after = await startedAt(container);
      await install('new\n', 'one\n');
      await untilActivation(undefined);
      await plugset.requested(name);
      expect(await startedAt(container)).toBe(after);
      expect(restarts()).toBe(1);
      await install('newer\n', 'two\n');
      await eventually(async () => expect(await startedAt(container)).not.toBe(after));
      expect(restarts()).toBe(2);
    });

    it('G-21: is restarted once for eight plugins that are upgraded by one edit', async () => {
      const container = await create();
      const names = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight'];
      for (const one of names) {
        await writePlugin(join(plugset.dirs.registry, one), { 'SKILL.md': `${one}\n` });
        await writePlugin(join(plugset.dirs.registry, `${one}-next`), { 'SKILL.md': `${one} next\n` });
      }
      await declare(names);
      await eventually(() => expect(restarts()).toBe(1));
      await untilActivation(undefined);
      const after = await startedAt(container);
      await declare(names.map((one) => `${one}=${one}-next`));
      await eventually(async () => expect(await startedAt(container)).not.toBe(after));
      await untilActivation(undefined);
      expect(restarts()).toBe(2);
      expect(await containers.exec(container, ['cat', '/configs/plugins/eight/SKILL.md'])).toBe('eight next\n');
    });

    it('is left alone where policy says so, and that is shown', async () => {
      const container = await create();
      const before = await startedAt(container);
      await declare(['one'], { restart: 'Never' });
      await untilActivation('RestartNever');
      expect(await startedAt(container)).toBe(before);
      // Somebody restarts it by hand: that takes it up as well.
      await container.restart({ t: 1 });
      await untilActivation(undefined);
      expect(restarts()).toBe(0);
    });

    it.each([
      ['on a tmpfs', { Tmpfs: { '/configs': '' } }],
      ['in a container of --rm', { AutoRemove: true }],
    ])('is never restarted with its config directory %s: what was delivered would be gone', async (_, host) => {
      const container = await create({ host: { NetworkMode: 'none', ...host } });
      const before = await startedAt(container);
      await declare(['one']);
      await untilActivation('NotDurable');
      await plugset.requested(name);
      expect(await startedAt(container)).toBe(before);
      expect(restarts()).toBe(0);
    });

    it('I-09: is not restarted again when the restart has lost what was installed', async () => {
      // As a runtime does that begins with an empty config directory each time.
      const container = await containers.docker.createContainer({
        Image: (await (await create()).inspect()).Image,
        name: `loses-${name}`,
        Cmd: [
          'sh',
          '-c',
          'rm -rf /configs/plugins /configs/.plugset; trap "exit 0" TERM; while :; do sleep 3600 & wait $!; done',
        ],
        Labels: { 'plugset.dev/workspace': `default/loses-${name}` },
        HostConfig: { NetworkMode: 'none' },
      });
      containers.adopt(container);
      await container.start();
      name = `loses-${name}`;
      await declare(['one']);
      await untilActivation('NotDurable');
      expect(restarts()).toBe(1);
      expect(await containers.exec(container, ['cat', '/configs/plugins/one/SKILL.md'])).toBe('one\n');
    });

    it('is restarted after a hand has edited what the last restart has kept, and says what each was for', async () => {
      const container = await create();
      await declare(['one']);
      await eventually(() => expect(restarts()).toBe(1));
      await untilActivation(undefined);
      await containers.exec(container, ['sh', '-c', 'echo edited > /configs/plugins/one/SKILL.md']);
      await plugset.requested(name);
      await eventually(() => expect(restarts()).toBe(2));
      await untilActivation(undefined);
      expect(await containers.exec(container, ['cat', '/configs/plugins/one/SKILL.md'])).toBe('one\n');
      const { history } = await plugset.status(name);
      expect(history.map(({ summary }) => summary.replace(/ container .*, so/, ' container, so'))).toEqual([
        expect.stringMatching(/^restarted container, so that it takes up: restore one/),
        expect.stringMatching(/^restored one/),
        expect.stringMatching(/^restarted container, so that it takes up: install one/),
        expect.stringMatching(/^installed one/),
      ]);
    });

    it('is started again after a restart that could only stop it, and says meanwhile what became of it', async () => {
      const source = join(plugset.dirs.git, 'mounted');
      await mkdir(source);
      const mount = { Type: 'bind', Source: source, Target: '/mounted' } as const;
      const container = await create({ host: { NetworkMode: 'none', Mounts: [mount] } });
      // Without it the engine refuses to start what it has stopped.
      await rename(source, `${source}.away`);
      await declare(['one']);
      await plugset.until(name, (status) => {
        expect(findCondition(status.conditions, 'Ready')).toMatchObject({
          reason: 'WorkspaceNotRunning',
          message: expect.stringContaining('a restart of ours has stopped it and could not start it again'),
        });
        expect(findCondition(status.conditions, 'ActivationPending')?.reason).toBe('RestartFailed');
      });
      expect((await container.inspect()).State.Status).toBe('exited');
      await rename(`${source}.away`, source);
      await plugset.untilReady(name);
      await untilActivation(undefined);
      expect((await container.inspect()).State.Status).toBe('running');
    });

    it('stays stopped when somebody else has stopped it', async () => {
      const container = await create();
      await declare(['one']);
      await eventually(() => expect(restarts()).toBe(1));
      await untilActivation(undefined);
      await container.stop({ t: 1 });
      await plugset.until(name, (status) =>
        expect(findCondition(status.conditions, 'Ready')?.reason).toBe('WorkspaceNotRunning'),
      );
      await plugset.requested(name);
      expect((await container.inspect()).State.Status).toBe('exited');
    });

    it('has a budget, and says that it waits for room in it', async () => {
      const container = await create();
      for (const plugins of [['one'], ['two']]) {
        const before = await startedAt(container);
        await declare(plugins);
        await eventually(async () => expect(await startedAt(container)).not.toBe(before));
        await untilActivation(undefined);
      }
      await declare(['three']);
      await untilActivation('RestartDeferred');
      expect(restarts()).toBe(2);
    });

    it('is not restarted while the fleet is observed only, or for what was adopted', async () => {
      const container = await create();
      const before = await startedAt(container);
      await containers.exec(container, [
        'sh',
        '-c',
        'mkdir -p /configs/plugins/one && echo one > /configs/plugins/one/SKILL.md',
      ]);
      await declare(['one']);
      await plugset.requested(name);
      await untilActivation(undefined);
      expect(await startedAt(container)).toBe(before);
    });
  });
});
