import { randomBytes } from 'node:crypto';
import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { API_VERSION, type WorkspaceManifest } from '../../src/domain/workspace.ts';
import type { RunAs, TargetProvider } from '../../src/ports/workspace-target.ts';
import { createWorkshop, type Workshop } from '../../src/workshop.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers, type TestContainerOptions } from '../support/docker-containers.ts';
import { writePlugin } from '../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../support/small-world.ts';

const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: HOUR,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};
const ROOT = { uid: 0, gid: 0 };
const AGENT = { uid: 1000, gid: 1000 };
const HIDDEN = { Tmpfs: { '/configs': 'mode=755' } };

/*
 * A container that seems new is converged in one run, without a look before it. What the engine cannot see there must come
 * out as if it had been looked at.
 */
await withBackend('docker', (address) => {
  describe('the first converge of a container', () => {
    const containers = new TestContainers(address);
    let world: SmallWorld;
    let provider: DockerTargetProvider;
    let workshop: Workshop;
    let runs: RunAs[];
    let name: string;
    let container: Docker.Container;

    beforeEach(async () => {
      world = await createSmallWorld();
      const { clock, logger } = world.ports;
      provider = new DockerTargetProvider({ engines: [{ name: 'default', address }], clock, logger });
      runs = [];
      const ports = { ...world.ports, providers: [counted(provider, runs)] };
      workshop = createWorkshop(ports, LIMITS, () => undefined);
      name = `first-${randomBytes(6).toString('hex')}`;
      for (const plugin of ['a', 'b']) await writePlugin(join(world.dirs.registry, plugin), { 'SKILL.md': plugin });
    });
    afterEach(async () => {
      workshop.revisions.stop();
      await provider.close();
      await world.close();
    });
    afterAll(() => containers.removeAll());

    const start = async (
      options: TestContainerOptions = {},
      policy: WorkspaceManifest['spec']['policy'] = {},
    ): Promise<void> => {
      container = await containers.create({ labels: { 'plugset.dev/workspace': `default/${name}` }, ...options });
      world.backend.declare({
        apiVersion: API_VERSION,
        kind: 'Workspace',
        metadata: { name },
        spec: {
          runtime: 'claude-code',
          target: { docker: {} },
          policy,
          plugins: ['a', 'b'].map((plugin) => ({ name: plugin, source: plugin })),
        },
      });
    };
    const inside = (script: string): Promise<string> =>
      containers.exec(container, ['sh', '-euc', script], { directory: '/configs' });
    const pass = async (): Promise<WorkspaceStatus> => {
      const key = workspaceKey('default', name);
      const { signal } = new AbortController();
      await workshop.reconciler.reconcile(key, FENCE, signal).catch(() => undefined);
      const loaded = await world.ports.store.get(key, signal);
      if (loaded.kind === 'absent') throw new Error('absent');
      return loaded.status;
    };
    const reasonOf = (status: WorkspaceStatus): unknown => findCondition(status.conditions, 'Ready')?.reason;
    const historyOf = (status: WorkspaceStatus): unknown =>
      status.history.map(({ outcome, times }) => [outcome, times]);

    it('is one run where root owns the config directory, and the next pass looks', async () => {
      await start();
      const status = await pass();
      expect(runs).toEqual([ROOT]);
      expect(status.summary).toBe('2/2');
      expect(historyOf(status)).toEqual([['Succeeded', 1]]);
      expect(await inside('cat plugins/a/SKILL.md plugins/b/SKILL.md')).toBe('ab');
      expect(await inside('ls .plugset')).not.toContain('lock-');

      expect((await pass()).summary).toBe('2/2');
      expect(runs).toEqual([ROOT, 'observer']);
      await pass();
      expect(runs).toHaveLength(2);
    });

    it('falls back to a look where the agent owns it: all is written by the agent, and nothing tells of the attempt', async () => {
      await start();
      await inside('chown 1000:1000 .');
      const status = await pass();
      expect(runs).toEqual([ROOT, 'observer', AGENT]);
      expect([status.summary, reasonOf(status), historyOf(status)]).toEqual(['2/2', 'Succeeded', [['Succeeded', 1]]]);
      expect(await inside('find . ! -user 1000 -o ! -group 1000')).toBe('');
      expect(world.metrics.argsOf('changed')).toHaveLength(2);

      // The next one is expected to be like it.
      runs.length = 0;
      name = `${name}-next`;
      await start();
      await inside('chown 1000:1000 .');
      expect((await pass()).summary).toBe('2/2');
      expect(runs).toEqual([AGENT]);
      expect(await inside('find . ! -user 1000 -o ! -group 1000')).toBe('');
    });

    it('falls back where another group has it: files have the group that a look finds', async () => {
      await start();
      await inside('chown 0:1000 .');
      expect((await pass()).summary).toBe('2/2');
      expect(runs).toEqual([ROOT, 'observer', { uid: 0, gid: 1000 }]);
    });

    it('leaves a directory of a declared name alone that the engine did not see, and adopts an equal one', async () => {
      await start({ host: HIDDEN });
      await inside(`mkdir -p plugins/a plugins/b && printf mine >plugins/a/SKILL.md && printf b >plugins/b/SKILL.md`);
      const before = await inside('stat -c %i plugins/b/SKILL.md');
      const status = await pass();
      expect(runs).toEqual([ROOT, 'observer', ROOT]);
      expect([status.summary, reasonOf(status)]).toEqual(['1/2', 'NameTaken']);
      expect(await inside('cat plugins/a/SKILL.md; ls .plugset/receipts')).toBe('mineb\n');
      expect(await inside('stat -c %i plugins/b/SKILL.md')).toBe(before);

      await pass();
      expect(runs.filter((as) => as !== 'observer')).toHaveLength(2);
    });

    it('writes nothing where another controller is at work that the engine did not see', async () => {
      await start({ host: HIDDEN });
      await inside('mkdir .plugset && echo them 5 5 >.plugset/fence');
      const before = await inside('find . -exec stat -c "%n %Y %Z" {} +');
      const status = await pass();
      expect(runs).toEqual([ROOT, 'observer']);
      expect([reasonOf(status), status.history]).toEqual(['ForeignOwner', []]);
      expect(await inside('find . -exec stat -c "%n %Y %Z" {} +')).toBe(before);
    });

    it('changes nothing where a plan waits for somebody, and looks', async () => {
      await start({}, { mode: 'Plan' });
      expect(reasonOf(await pass())).toBe('AwaitingApproval');
      expect(runs).toEqual(['observer']);
      expect(await inside('ls -A')).toBe('');
    });

    it('follows no link in the place of the config directory', async () => {
      await start();
      await containers.exec(container, ['sh', '-c', 'rmdir /configs && mkdir /elsewhere && ln -s elsewhere /configs']);
      expect(reasonOf(await pass())).toBe('UnsafePath');
      expect(await containers.exec(container, ['ls', '-A', '/elsewhere'])).toBe('');
    });
  });
});

/** Hands out the targets of `provider`, and notes as whom commands are run in them. */
function counted(provider: TargetProvider, runs: RunAs[]): TargetProvider {
  return {
    kind: provider.kind,
    addresses: (workspace) => provider.addresses(workspace),
    lane: (workspace) => provider.lane(workspace),
    async locate(workspace, signal) {
      const target = await provider.locate(workspace, signal);
      return {
        identity: target.identity,
        description: target.description,
        run(argv, options) {
          runs.push(options.as);
          return target.run(argv, options);
        },
        probe: (configDir, until) => target.probe(configDir, until),
      };
    },
    close: () => provider.close(),
  };
}
