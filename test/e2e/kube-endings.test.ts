import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { DirectoryTargetProvider } from '../../src/adapters/directory/directory-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { transient } from '../../src/domain/errors.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { argoHealth, LUA_IS_MISSING } from '../support/argocd-health.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { Cluster } from '../support/kube/cluster.ts';
import { NamespaceWorkspaces, startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { deletePod, startPod } from '../support/kube/pod.ts';
import { CONFIG_DIR } from '../support/kube/pod-host.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { kstatus } from '../support/kstatus.ts';
import { tempDir } from '../support/temp-dir.ts';
import { UnreliableTargets } from '../support/unreliable-targets.ts';

interface Found {
  readonly metadata: {
    readonly generation: number;
    readonly finalizers?: string[];
    readonly deletionTimestamp?: string;
  };
  readonly status: WorkspaceStatus;
}

await withBackend('kubernetes', (address) => {
  describe('the end of a custom resource', () => {
    let cluster: Cluster;
    let namespace: string;
    let workspaces: NamespaceWorkspaces;
    let plugset: ClusterPlugset | undefined;
    let targets: UnreliableTargets;
    let homes: string;

    beforeAll(async () => {
      cluster = await Cluster.at(address);
      await installWorkspaceCrd(cluster);
    });
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      workspaces = new NamespaceWorkspaces(cluster, namespace);
      homes = await tempDir();
      const clock = new SystemClock();
      const path = process.env['PATH'] ?? '';
      targets = new UnreliableTargets(new DirectoryTargetProvider({ roots: [{ path: homes }], path, clock }));
    });
    afterEach(async () => {
      await stop();
      await removeNamespace(cluster, namespace);
    });

    const start = async (giveUpAfter = '1h'): Promise<void> => {
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        stateNamespace: namespace,
        namespaces: [namespace],
        settings: () => ({ deletion: { giveUpAfter } }),
        parts: { providers: [targets] },
      });
      for (const name of ['one', 'two']) await plugset.release(name, `${name}\n`);
    };
    const stop = async (): Promise<void> => {
      await plugset?.stop();
      plugset = undefined;
    };
    const declare = async (name: string, spec: object = {}): Promise<void> => {
      await mkdir(join(homes, name), { recursive: true });
      await workspaces.declare(name, { directory: { path: join(homes, name) } }, ['one', 'two'], spec);
    };
    const read = (name: string): Promise<Found> => cluster.call<Found>('GET', `${workspacesIn(namespace)}/${name}`);
    const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl([...args, '-n', namespace]);
    const untilGone = (name: string): Promise<string> =>
      kubectl('wait', `pws/${name}`, '--for=delete', '--timeout=60s');
    const installed = async (name: string): Promise<readonly string[]> =>
      (await readdir(join(homes, name, 'plugins')).catch((): string[] => [])).toSorted();
    const untilTold = (name: string, line: RegExp): Promise<void> =>
      eventually(async () => expect(await kubectl('events', '--for', `workspace/${name}`)).toMatch(line));

    it('waits until its target is clean', async () => {
      await start();
      await declare('alice');
      await workspaces.untilReady('alice');
      expect((await read('alice')).metadata.finalizers).toEqual(['plugset.dev/cleanup']);
      await kubectl('delete', 'pws/alice', '--timeout=60s');
      expect(await installed('alice')).toEqual([]);
      await untilTold('alice', /Normal\s+Succeeded\s+Workspace\/alice\s+it is declared no more/);
    });

    it('waits for no target that is gone', async () => {
      await start();
      await declare('alice');
      await workspaces.untilReady('alice');
      await rm(join(homes, 'alice'), { recursive: true });
      await kubectl('delete', 'pws/alice', '--timeout=60s');
      expect(await kubectl('get', 'pws', '-o', 'name')).toBe('');
      await untilTold('alice', /Normal\s+Succeeded\s+Workspace\/alice\s+.*its target does not exist/);
    });

    it('waits for its time where the target cannot be reached, says so, and then tells what is left', async () => {
      await start();
      await declare('alice');
      await workspaces.untilReady('alice');
      targets.failures.set('alice', transient('Unreachable', 'nobody answers'));
      await kubectl('delete', 'pws/alice', '--wait=false');
      await workspaces.until('alice', ({ conditions }, { metadata }) => {
        const ready = findCondition(conditions, 'Ready');
        expect(ready?.message).toMatch(/^waits until 20.* for its target.*: nobody answers$/);
        expect(metadata.finalizers).toEqual(['plugset.dev/cleanup']);
      });
      // Who runs it is out of patience.
      await stop();
      await start('1s');
      await untilGone('alice');
      expect(await installed('alice')).toEqual(['one', 'two']);
      await untilTold(
        'alice',
        /Warning\s+DeletedUnclean\s+Workspace\/alice\s+left behind in .*alice: one, two; Unreachable/,
      );
    });

    it('comes at once by the word of whoever has the target left as it is', async () => {
      await start();
      await declare('alice');
      await workspaces.untilReady('alice');
      targets.failures.set('alice', transient('Unreachable', 'nobody answers'));
      await kubectl('delete', 'pws/alice', '--wait=false');
      await workspaces.until('alice', ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')?.reason).toBe('Unreachable'),
      );
      const patch = '{"spec": {"policy": {"deletion": "Orphan"}}}';
      await kubectl('patch', 'pws/alice', '--type=merge', '-p', patch);
      await untilGone('alice');
      expect(await installed('alice')).toEqual(['one', 'two']);
      expect(await readFile('README.md', 'utf8')).toContain(`kubectl patch pws/alice --type=merge -p '${patch}'`);
    });

    it('comes when a controller does, though it was away while it was deleted', async () => {
      await start();
      for (const name of ['alice', 'bob']) await declare(name);
      for (const name of ['alice', 'bob']) await workspaces.untilReady(name);
      await stop();
      await kubectl('delete', 'pws/alice', 'pws/bob', '--wait=false');
      expect((await read('alice')).metadata).toMatchObject({
        deletionTimestamp: expect.any(String),
        finalizers: ['plugset.dev/cleanup'],
      });
      expect(await installed('alice')).toEqual(['one', 'two']);
      targets.failures.set('bob', transient('Unreachable', 'nobody answers'));
      // The time ran while nobody was there.
      await start('1s');
      await Promise.all(['alice', 'bob'].map(untilGone));
      expect(await installed('alice')).toEqual([]);
      expect(await installed('bob')).toEqual(['one', 'two']);
      await untilTold('bob', /DeletedUnclean/);
    });

    it('comes at once, and by nobody’s leave, where nothing is to be taken away or ever was put', async () => {
      targets.failures.set('lost', transient('Unreachable', 'nobody answers'));
      await start();
      await declare('alice', { policy: { deletion: 'Orphan' } });
      await declare('lost');
      await workspaces.untilReady('alice');
      await workspaces.until('lost', ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')?.reason).toBe('Unreachable'),
      );
      await stop();
      await kubectl('delete', 'pws/alice', 'pws/lost', '--timeout=30s');
      expect(await installed('alice')).toEqual(['one', 'two']);
    });
  });

  describe('the status of a custom resource', () => {
    let cluster: Cluster;
    let namespace: string;
    let workspaces: NamespaceWorkspaces;
    let plugset: ClusterPlugset | undefined;

    beforeAll(async () => {
      cluster = await Cluster.at(address);
      await installWorkspaceCrd(cluster);
      namespace = await createNamespace(cluster);
      workspaces = new NamespaceWorkspaces(cluster, namespace);
      return async () => {
        await plugset?.stop();
        await removeNamespace(cluster, namespace);
      };
    });

    it('gets its health check beside what else Argo CD is told', async () => {
      const data = { 'timeout.reconciliation': '60s' };
      await cluster.call('POST', `/api/v1/namespaces/${namespace}/configmaps`, {
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'argocd-cm' }, data },
      });
      const [, block = ''] = /```sh\n(.*?)```/s.exec(await readFile('manifests/argocd/README.md', 'utf8')) ?? [];
      const [create = [], apply = []] = block
        .replaceAll('\\\n', '')
        .replace('-n argocd', `-n ${namespace}`)
        .split('|')
        .map((command) => command.trim().split(/\s+/).slice(1));
      await cluster.kubectl(apply, await cluster.kubectl(create));
      const made = await cluster.call<{ readonly data: Readonly<Record<string, string>> }>(
        'GET',
        `/api/v1/namespaces/${namespace}/configmaps/argocd-cm`,
      );
      expect(made.data).toEqual({
        ...data,
        'resource.customizations.health.plugset.dev_Workspace': await readFile('manifests/argocd/health.lua', 'utf8'),
      });
    });

    it.skipIf(LUA_IS_MISSING)('is read alike by kubectl, by kstatus and by Argo CD', async () => {
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        stateNamespace: namespace,
        namespaces: [namespace],
        settings: ({ root }) => ({ targets: { directory: { roots: [{ path: root, namespaces: [namespace] }] } } }),
      });
      await plugset.release('one', 'one\n');
      const { root } = plugset.dirs;
      const at = (name: string): object => ({ directory: { path: join(root, name) } });
      for (const name of ['fine', 'lacks', 'waits', 'quiet']) await mkdir(join(root, name));
      await workspaces.declare('fine', at('fine'), ['one']);
      await workspaces.declare('lacks', at('lacks'), ['one', 'nowhere']);
      await workspaces.declare('waits', at('waits'), ['one'], { policy: { mode: 'Plan' } });
      await workspaces.declare('quiet', at('quiet'), ['one'], { suspend: true });
      await workspaces.declare('away', at('away'), ['one']);
      const expected = {
        fine: ['Healthy', 'Current', 'True', /^Succeeded: 1 of 1 plugins/],
        lacks: ['Degraded', 'Failed', 'False', /^PluginNotFound: /],
        waits: ['Suspended', 'InProgress', 'False', /^AwaitingApproval: /],
        quiet: ['Suspended', 'InProgress', 'Unknown', /^Suspended: /],
        away: ['Progressing', 'InProgress', 'False', /^WorkspaceNotFound: /],
      } as const;
      for (const [name, [health, verdict, ready, message]] of Object.entries(expected)) {
        await eventually(async () => {
          const object = await cluster.call<Found>('GET', `${workspacesIn(namespace)}/${name}`);
          expect(await argoHealth(object)).toEqual({ status: health, message: expect.stringMatching(message) });
          expect(kstatus(object.metadata.generation, false, object.status)).toBe(verdict);
        });
        const wait = ['wait', `pws/${name}`, '-n', namespace, '--timeout=5s'];
        await cluster.kubectl([...wait, `--for=condition=Ready=${ready}`]);
        const isStalled = await cluster.kubectl([...wait, '--for=condition=Stalled', '--timeout=0s']).then(
          () => true,
          () => false,
        );
        expect(isStalled).toBe(verdict === 'Failed');
      }
      // An edit counts as not done until a pass says so, by every way of asking.
      await plugset.stop();
      plugset = undefined;
      await workspaces.declare('fine', at('fine'), ['one'], { policy: { drift: 'Warn' } });
      const edited = await cluster.call<Found>('GET', `${workspacesIn(namespace)}/fine`);
      expect(await argoHealth(edited)).toMatchObject({ status: 'Progressing' });
      expect(kstatus(edited.metadata.generation, false, edited.status)).toBe('InProgress');
      await expect(
        cluster.kubectl(['wait', 'pws/fine', '-n', namespace, '--for=condition=Ready', '--timeout=1s']),
      ).rejects.toThrow(/timed out/);
    });
  });
});

interface Pod {
  readonly metadata: { readonly labels: object };
  readonly spec: { readonly containers: readonly { readonly name: string; readonly image: string }[] };
  readonly status: object;
}

const MERGE = { contentType: 'application/merge-patch+json' };

/** A node that is said to be there, and on which nothing listens. */
async function createLostNode(cluster: Cluster): Promise<string> {
  const name = `lost-${randomBytes(4).toString('hex')}`;
  await cluster.call('POST', '/api/v1/nodes', { body: { apiVersion: 'v1', kind: 'Node', metadata: { name } } });
  const status = {
    addresses: [{ type: 'InternalIP', address: '127.0.0.1' }],
    daemonEndpoints: { kubeletEndpoint: { Port: await freePort() } },
  };
  await cluster.call('PATCH', `/api/v1/nodes/${name}/status`, { ...MERGE, body: { status } });
  return name;
}

await withBackend('node', async (address) => {
  const node = await nodeAt(address);

  describe('the end of a custom resource whose target is a pod', () => {
    const { cluster } = node;
    let namespace: string;
    let workspaces: NamespaceWorkspaces;
    let plugset: ClusterPlugset | undefined;

    beforeAll(() => installWorkspaceCrd(cluster));
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      workspaces = new NamespaceWorkspaces(cluster, namespace);
      await start('1h');
      await startPod(node, { namespace, name: 'alice', labels: { 'plugset.dev/workspace': 'alice' } });
      await kubectl('exec', 'alice', '--', 'chown', '1000:1000', CONFIG_DIR);
      await workspaces.declare('alice', { pod: {} }, ['one']);
      await workspaces.untilReady('alice');
      expect(await installed()).toBe('one\n');
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await removeNamespace(cluster, namespace);
    });

    const start = async (giveUpAfter: string): Promise<void> => {
      await plugset?.stop();
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        stateNamespace: namespace,
        namespaces: [namespace],
        settings: () => ({ deletion: { giveUpAfter } }),
      });
      await plugset.release('one', 'one\n');
    };
    const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);
    const installed = (): Promise<string> => kubectl('exec', 'alice', '--', 'ls', `${CONFIG_DIR}/plugins`);
    const untilTold = (line: RegExp): Promise<void> =>
      eventually(async () => expect(await kubectl('events', '--for', 'workspace/alice')).toMatch(line));
    /** The same pod by name, on a node that answers nobody. */
    const moveToLostNode = async (): Promise<string> => {
      const path = `/api/v1/namespaces/${namespace}/pods`;
      const pod = await cluster.call<Pod>('GET', `${path}/alice`);
      await deletePod(node, namespace, 'alice');
      const lost = await createLostNode(cluster);
      const [main] = pod.spec.containers;
      await cluster.call('POST', path, {
        body: {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name: 'alice', labels: pod.metadata.labels },
          spec: {
            nodeName: lost,
            automountServiceAccountToken: false,
            containers: [{ name: main?.name, image: main?.image }],
          },
        },
      });
      await cluster.call('PATCH', `${path}/alice/status`, { ...MERGE, body: { status: pod.status } });
      return lost;
    };

    it('cleans a pod that runs', async () => {
      await kubectl('delete', 'pws/alice', '--timeout=60s');
      expect(await installed()).toBe('');
      await untilTold(/Normal\s+Succeeded\s+Workspace\/alice\s+it is declared no more/);
    });

    it('waits for no pod that is gone', async () => {
      await deletePod(node, namespace, 'alice');
      await kubectl('delete', 'pws/alice', '--timeout=60s');
      await untilTold(/Normal\s+Succeeded\s+Workspace\/alice\s+.*its target does not exist/);
      expect(await kubectl('get', 'pws', '-o', 'name')).toBe('');
    });

    it('waits for its time where the node of the pod is lost, and then tells what is left', async () => {
      const lost = await moveToLostNode();
      try {
        await kubectl('delete', 'pws/alice', '--wait=false');
        await workspaces.until('alice', ({ conditions }) =>
          expect(findCondition(conditions, 'Ready')?.message).toMatch(/^waits until 20.* for its target/),
        );
        await start('1s');
        await kubectl('wait', 'pws/alice', '--for=delete', '--timeout=60s');
        await untilTold(/Warning\s+DeletedUnclean\s+Workspace\/alice\s+left behind in container main of pod .*: one; /);
      } finally {
        await cluster.call('DELETE', `/api/v1/nodes/${lost}`);
      }
    });

    it('comes when a controller does', async () => {
      await plugset?.stop();
      plugset = undefined;
      await kubectl('delete', 'pws/alice', '--wait=false');
      expect(await installed()).toBe('one\n');
      await start('1s');
      await kubectl('wait', 'pws/alice', '--for=delete', '--timeout=60s');
      expect(await installed()).toBe('');
    });
  });
});
