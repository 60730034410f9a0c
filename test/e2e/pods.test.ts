import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { Config } from '../../src/config.ts';
import { findCondition, type ConditionType } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import type { Policy } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { deletePod, podManifest, startPod, type PodOptions } from '../support/kube/pod.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

/** Long enough that nothing can be the work of a clock: what happens was woken by an event. */
const NEVER = 600_000;

const LABELS = { 'plugset.dev/workspace': 'alice' };
/** What is on it outlives its container, and goes with its pod. */
const EMPTY_DIR = {
  container: { volumeMounts: [{ name: 'configs', mountPath: '/configs' }] },
  spec: { volumes: [{ name: 'configs', emptyDir: {} }] },
};
/** A main process that ends when it is asked to. */
const POLITE = ['sh', '-c', 'trap exit TERM; sleep 1000000 & wait'];

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  const { cluster } = node;

  describe('a workspace that is a pod', () => {
    let namespace: string;
    let alice: string;
    let plugset: Plugset;

    const start = async (config: Partial<Config> = {}): Promise<void> => {
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: { kubernetes: { kubeconfigs: [join(cluster.directory, 'admin.kubeconfig')] }, ...config },
      });
      for (const name of ['one', 'two']) await release(name, '1.0.0');
    };
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      alice = `${namespace}/alice`;
    });
    afterEach(async () => {
      await plugset.stop();
      await removeNamespace(cluster, namespace);
    });

    const release = (name: string, version: string): Promise<void> =>
      writePlugin(join(plugset.dirs.registry, name), {
        'plugin.yaml': `name: ${name}\nversion: ${version}\n`,
        'bin/run': `#!/bin/sh\necho ${version}\n`,
      });
    const declare = async (
      plugins: readonly string[],
      options: { readonly name?: string; readonly pod?: object; readonly policy?: Partial<Policy> } = {},
    ): Promise<void> => {
      await plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: options.name ?? 'alice', namespace },
          spec: {
            runtime: 'claude-code',
            target: { pod: options.pod ?? {} },
            plugins: plugins.map((name) => ({ name, source: name })),
            policy: options.policy,
          },
        },
        AbortSignal.timeout(60_000),
      );
    };
    const create = (options: Partial<PodOptions> = {}): Promise<void> =>
      startPod(node, { name: 'agent', namespace, labels: LABELS, ...options });
    const inPod = (...argv: readonly string[]): Promise<string> =>
      cluster.kubectl(['-n', namespace, 'exec', 'agent', '-c', 'main', '--', ...argv]);
    const reasonOf = (status: WorkspaceStatus, type: ConditionType): string | undefined =>
      findCondition(status.conditions, type)?.reason;
    const untilReason = (reason: string | undefined, type: ConditionType = 'Ready'): Promise<WorkspaceStatus> =>
      plugset.until(alice, (status) => expect(reasonOf(status, type)).toBe(reason));
    const restarts = (): Promise<string> =>
      cluster.kubectl([
        '-n',
        namespace,
        'get',
        'pod',
        'agent',
        '-o',
        'jsonpath={.status.containerStatuses[0].restartCount}',
      ]);
    const looks = async (tier: 'deep' | 'probe', outcome: string): Promise<number> => {
      const text = await (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();
      const line = `plugset_looks_total{tier="${tier}",outcome="${outcome}"} `;
      return Number(
        text
          .split('\n')
          .find((one) => one.startsWith(line))
          ?.slice(line.length) ?? 0,
      );
    };
    const execs = async (): Promise<number> => {
      const events = await cluster.auditEvents();
      return events.filter(({ objectRef }) => objectRef?.namespace === namespace && objectRef.subresource === 'exec')
        .length;
    };

    it('is installed, upgraded, healed and emptied as its file says', async () => {
      await start();
      await create();
      await declare(['one', 'two'], { policy: { deletion: 'Remove' } });
      expect(await plugset.untilReady(alice)).toMatchObject({
        summary: '2/2',
        target: `container main of pod ${namespace}/agent`,
      });
      expect(await inPod('/configs/plugins/one/bin/run')).toBe('1.0.0\n');

      await release('one', '2.0.0');
      await eventually(async () => expect(await inPod('/configs/plugins/one/bin/run')).toBe('2.0.0\n'));

      await inPod('sh', '-c', 'echo edited >/configs/plugins/two/bin/run');
      await eventually(async () => expect(await inPod('/configs/plugins/two/bin/run')).toBe('1.0.0\n'));

      await declare(['two'], { policy: { deletion: 'Remove' } });
      await eventually(async () => expect(await inPod('ls', '/configs/plugins')).toBe('two\n'));
      await plugset.app.store.delete(`${namespace}/alice` as never, AbortSignal.timeout(60_000));
      await eventually(async () => expect(await inPod('ls', '/configs/plugins')).toBe(''));
    });

    it('waits for its pod, is converged when it comes, and again when another takes its place', async () => {
      await start({ probeIntervalMs: NEVER, deepIntervalMs: NEVER });
      await declare(['one']);
      await untilReason('WorkspaceNotFound');
      await create(EMPTY_DIR);
      await plugset.untilReady(alice);
      expect(await looks('deep', 'looked'), 'it was applied to at once').toBe(0);
      await deletePod(node, namespace, 'agent');
      await untilReason('WorkspaceNotFound');
      // The same name, as of a StatefulSet.
      await create(EMPTY_DIR);
      await plugset.untilReady(alice);
      expect(await inPod('/configs/plugins/one/bin/run')).toBe('1.0.0\n');
    });

    it('is converged again when its container is started again without what was in it', async () => {
      await start({ probeIntervalMs: NEVER, deepIntervalMs: NEVER });
      await create({ container: { command: POLITE } });
      await declare(['one']);
      await plugset.untilReady(alice);
      // The end of the container may take along what asked for it.
      await inPod('kill', '1').catch(() => undefined);
      await eventually(async () => expect(await restarts()).toBe('1'));
      await eventually(async () => expect(await inPod('/configs/plugins/one/bin/run')).toBe('1.0.0\n'));
    });

    it('costs no exec while nobody touches it', async () => {
      await start({ deepIntervalMs: NEVER });
      await create();
      await declare(['one']);
      await plugset.untilReady(alice);
      const unmoved = (): Promise<number> => looks('probe', 'unmoved');
      await eventually(async () => expect(await unmoved()).toBeGreaterThan(0));
      const [before, passes] = [await execs(), await unmoved()];
      await eventually(async () => expect(await unmoved()).toBeGreaterThan(passes + 5));
      expect(await execs()).toBe(before);
    });

    it('is restarted once by a signal to its main process where its files outlive that', async () => {
      await start({
        profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
        activation: { quietMs: 500, patienceMs: 5_000, perHour: 3 },
      });
      await create({ ...EMPTY_DIR, container: { ...EMPTY_DIR.container, command: POLITE } });
      await declare(['one']);
      await plugset.untilReady(alice);
      await eventually(async () => expect(await restarts()).toBe('1'));
      await untilReason(undefined, 'ActivationPending');
      await plugset.untilReady(alice);
      expect(await inPod('/configs/plugins/one/bin/run')).toBe('1.0.0\n');
      expect(await restarts()).toBe('1');
    });

    it('is never restarted where its files would be gone, and says so', async () => {
      await start({
        profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
        activation: { quietMs: 500, patienceMs: 5_000, perHour: 3 },
      });
      await create({ container: { command: POLITE } });
      await declare(['one']);
      const status = await untilReason('NotDurable', 'ActivationPending');
      expect(findCondition(status.conditions, 'ActivationPending')?.message).toContain('on no volume');
      expect(await restarts()).toBe('0');
    });

    it('may belong to nobody but its user, who cannot become root, where the operator says who that is', async () => {
      const create1000 = (): Promise<void> =>
        create({
          ...EMPTY_DIR,
          container: { ...EMPTY_DIR.container, securityContext: { runAsUser: 1000, runAsGroup: 1000 } },
        });
      await start({ probeIntervalMs: NEVER, deepIntervalMs: NEVER });
      await create1000();
      await declare(['one']);
      const { conditions } = await untilReason('PermissionDenied');
      expect(findCondition(conditions, 'Ready')?.message).toMatch(
        /belong to 0:0.* runs there as 1000:1000 .*owner: {uid: 1000, gid: 1000}/,
      );
      await plugset.stop();

      const owner = { uid: 1000, gid: 1000 };
      await start({ profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, owner })) });
      await declare(['one']);
      await plugset.untilReady(alice);
      expect(await inPod('stat', '-c', '%u:%g', '/configs/plugins/one')).toBe('1000:1000\n');
    });

    it('says of each state why there is nothing to work on', async () => {
      await start({ probeIntervalMs: NEVER, deepIntervalMs: NEVER });
      await declare(['one']);
      const path = `/api/v1/namespaces/${namespace}/pods`;
      const make = (name: string, over: Partial<PodOptions> = {}, isScheduled = true): Promise<unknown> =>
        cluster.call('POST', path, {
          body: podManifest(node, {
            name,
            namespace,
            labels: LABELS,
            ...over,
            spec: { ...(isScheduled ? {} : { nodeName: undefined }), ...over.spec },
          }),
        });
      const remove = (name: string): Promise<void> => deletePod(node, namespace, name);

      await make('pending', {}, false);
      await untilReason('PodPending');
      await cluster.call('PATCH', `${path}/pending/status`, {
        contentType: 'application/merge-patch+json',
        body: { status: { phase: 'Failed', reason: 'Evicted' } },
      });
      await untilReason('PodEvicted');
      await remove('pending');
      await untilReason('WorkspaceNotFound');

      await make('unready', { container: { image: 'plugset.test/none:1' } });
      await untilReason('PodNotReady');
      await remove('unready');

      await make('restarting', { container: { command: ['false'] } });
      await untilReason('ContainerRestarting');
      await remove('restarting');

      await make('completed', { container: { command: ['true'] }, spec: { restartPolicy: 'Never' } });
      await untilReason('PodCompleted');

      // What has ended is no match beside what runs.
      await create();
      await plugset.untilReady(alice);
      await create({ name: 'second' });
      await untilReason('TargetAmbiguous');
      await remove('second');
      await plugset.untilReady(alice);
      expect(await inPod('ls', '/configs/plugins')).toBe('one\n');
    });

    it('is left alone where two claim it, and where it is labelled for another one', async () => {
      await start({ probeIntervalMs: NEVER, deepIntervalMs: NEVER });
      await create({ labels: { app: 'agent' } });
      await declare(['one'], { pod: { name: 'agent' } });
      await plugset.untilReady(alice);
      await declare(['two'], { name: 'bob', pod: { selector: { app: 'agent' } } });
      await plugset.until(`${namespace}/bob`, (status) => expect(reasonOf(status, 'Ready')).toBe('TargetClaimed'));
      expect(await inPod('ls', '/configs/plugins')).toBe('one\n');

      await create({ name: 'carols', labels: { 'plugset.dev/workspace': 'carol' } });
      await declare(['two'], { name: 'bob', pod: { name: 'carols' } });
      await plugset.until(`${namespace}/bob`, (status) => expect(reasonOf(status, 'Ready')).toBe('TargetUnproven'));
    });

    it('is none where the operator has not said that its namespace may have some', async () => {
      await start({ pods: { namespaces: ['elsewhere'] } });
      await create();
      await declare(['one']);
      const { conditions } = await plugset.until(alice, (status) =>
        expect(reasonOf(status, 'Ready')).toBe('TargetNotAllowed'),
      );
      expect(findCondition(conditions, 'Ready')?.message).toContain('targets.pod.namespaces');
    });
  });
});
