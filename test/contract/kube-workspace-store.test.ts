import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../src/adapters/kube/kube-client.ts';
import { KubeControllerState } from '../../src/adapters/kube/kube-controller-state.ts';
import { KubeWorkspaceStore } from '../../src/adapters/kube/kube-workspace-store.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { writable } from '../../src/adapters/kube/workspace-status.ts';
import { splitWorkspaceKey, workspaceKey, type PluginName, type WorkspaceKey } from '../../src/domain/name.ts';
import { EMPTY_STATUS, type PluginStatus } from '../../src/domain/status.ts';
import { API_VERSION, DEFAULT_POLICY, type WorkspaceManifest } from '../../src/domain/workspace.ts';
import type { WorkspaceStore } from '../../src/ports/workspace-store.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import type { Cluster } from '../support/kube/cluster.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { describeWorkspaceStore, type WorkspaceStoreBackend } from './workspace-store.ts';

const never = new AbortController().signal;
const NAMESPACES = ['default', 'team-a', 'fleet', 'kinds'];

// A cluster of its own: its cases declare in namespaces of fixed names, and read all of them.
await withBackend('kube-apiserver', (programs) => {
  describe('on a real API server', () => {
    let plane: ControlPlane;
    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      await installWorkspaceCrd(plane.cluster);
      for (const name of NAMESPACES.slice(1))
        await plane.cluster.call('POST', '/api/v1/namespaces', {
          body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name } },
        });
    });
    afterAll(() => plane.stop());

    it('take whatever text a target prints into a status', async () => {
      const backend = await createBackend(plane.cluster, undefined);
      try {
        const store = await backend.open();
        const key = await applyAlice(store);
        const summary =
          'nul \0, tab\t, c1 \u0085\u009b, lines\u2028, half \ud83d, whole \u{1f600}, ½: "quoted", {a: b} # no comment';
        await store.writeStatus({ key, status: { ...EMPTY_STATUS, summary }, fence: backend.fence(1) }, never);
        expect(await store.get(key, never)).toMatchObject({
          status: { summary: writable({ ...EMPTY_STATUS, summary }).summary },
        });
        await store.close();
      } finally {
        await backend.dispose();
      }
    });

    it('believe no turn that somebody else has written into a status', async () => {
      const backend = await createBackend(plane.cluster, undefined);
      try {
        const store = await backend.open();
        const key = await applyAlice(store);
        await store.writeStatus({ key, status: { ...EMPTY_STATUS, summary: '0/1' }, fence: backend.fence(2) }, never);
        const path = `${workspacesIn('team-a')}/alice/status`;
        await plane.cluster.call('PATCH', path, {
          contentType: 'application/merge-patch+json',
          body: { status: { summary: 'mine', fence: { epoch: 9, n: 9 } } },
        });
        await backend.settled?.();
        await store.writeStatus({ key, status: { ...EMPTY_STATUS, summary: '1/1' }, fence: backend.fence(2) }, never);
        expect(await plane.cluster.call('GET', path)).toMatchObject({
          status: { summary: '1/1', fence: { epoch: 1, n: 2 } },
        });
        await store.close();
      } finally {
        await backend.dispose();
      }
    });

    it('keep to itself what becomes of an object that its status does not fit into', async () => {
      const backend = await createBackend(plane.cluster, undefined);
      try {
        const store = await backend.open();
        const key = await applyAlice(store);
        const plugin = (n: number): object => ({ name: `p${n}`, source: 'x', config: { text: 'x'.repeat(60_000) } });
        await plane.cluster.call('PATCH', `${workspacesIn('team-a')}/alice`, {
          contentType: 'application/merge-patch+json',
          body: { spec: { plugins: Array.from({ length: 26 }, (_, n) => plugin(n)) } },
        });
        await backend.settled?.();
        const row = { state: 'Failed', managed: false, since: '2026-11-23T00:00:00.000Z' } as const;
        const message = 'y'.repeat(1_000);
        const plugins = Array.from({ length: 40 }, (_, n): PluginStatus => ({
          ...row,
          name: `p${n}` as PluginName,
          reason: 'InstallFailed',
          message,
        }));
        const write = { key, status: { ...EMPTY_STATUS, plugins }, fence: backend.fence(1) };
        await expect(store.writeStatus(write, never)).rejects.toMatchObject({
          class: 'transient',
          reason: 'TooLarge',
          message: expect.stringContaining('workspace team-a/alice is too large'),
        });
        // A status of a few words has room.
        await store.writeStatus({ ...write, status: { ...EMPTY_STATUS, summary: '0/26' } }, never);
        await store.close();
      } finally {
        await backend.dispose();
      }
    });

    it('work in the namespaces that may be read, and take nothing in another for gone', async () => {
      const allow = (namespace: string): Promise<unknown> =>
        plane.cluster.call('POST', `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings`, {
          body: {
            metadata: { name: 'plugset' },
            roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
            subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'bob' }],
          },
        });
      const forbid = (namespace: string): Promise<unknown> =>
        plane.cluster.call('DELETE', `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/rolebindings/plugset`);
      const admin = await createBackend(plane.cluster, NAMESPACES);
      const backend = await createBackend(plane.cluster, ['team-a', 'fleet'], plane.cluster.tokens.bob);
      const stop = new AbortController();
      try {
        const alice = workspaceKey('team-a', 'alice');
        const carol = workspaceKey('fleet', 'carol');
        for (const key of [alice, carol]) await admin.declare(external(key));
        await expect(backend.open(), 'none may be read').rejects.toMatchObject({ reason: 'StoreUnavailable' });
        await allow('team-a');
        const store = await eventually(() => backend.open());

        const named: WorkspaceKey[] = [];
        await store.watch((key) => void named.push(key), stop.signal);
        const isRefused = async (keys: readonly WorkspaceKey[]): Promise<void> => {
          expect([...(store.unread?.() ?? [])]).toEqual([['fleet', expect.stringContaining('HTTP 403')]]);
          expect(store.unreadable?.()).toBe(1);
          expect(store.outdated).toBeUndefined();
          expect((await store.list(never)).toSorted()).toEqual(keys);
          expect(await store.get(alice, never)).toMatchObject({ kind: 'found' });
          await expect(store.get(carol, never)).rejects.toMatchObject({ class: 'waiting', reason: 'AccessDenied' });
        };
        await isRefused([alice]);

        await allow('fleet');
        await eventually(() => expect(named).toContain(carol));
        expect(await store.get(carol, never)).toMatchObject({ kind: 'found' });
        expect(store.unread?.().size).toBe(0);

        await forbid('fleet');
        // A watch that stands is not asked again whether it may.
        await backend.break();
        await backend.heal();
        await eventually(() => expect(store.unread?.().size).toBe(1));
        await isRefused([carol, alice]);
        await store.close();
      } finally {
        stop.abort();
        for (const namespace of ['team-a', 'fleet']) await forbid(namespace).catch(() => undefined);
        await backend.dispose();
        await admin.dispose();
      }
    }, 240_000);

    for (const [title, namespaces] of [
      ['custom resources of a cluster', undefined],
      ['custom resources of some namespaces', NAMESPACES],
    ] as const)
      describeWorkspaceStore(title, {
        defaultPolicy: DEFAULT_POLICY,
        origin: /^workspace\.plugset\.dev\/alice in team-a: spec\.plugins \(\w+\)$/,
        resumes: true,
        unsupported: {
          'a workspace that is declared anew during its deletion is declared':
            'Kubernetes takes no deletion back: the name is free when the object is gone',
        },
        create: () => createBackend(plane.cluster, namespaces),
      });
  });
});

async function applyAlice(store: WorkspaceStore): Promise<WorkspaceKey> {
  const key = workspaceKey('team-a', 'alice');
  await store.apply(external(key), never);
  return key;
}

function external(key: WorkspaceKey): WorkspaceManifest {
  return {
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: splitWorkspaceKey(key),
    spec: { runtime: 'hermes', target: { external: {} }, plugins: [] },
  };
}

async function createBackend(
  cluster: Cluster,
  namespaces: readonly string[] | undefined,
  token: string = cluster.tokens.admin,
): Promise<WorkspaceStoreBackend> {
  const network = await FaultProxy.open(cluster.server.replace('https:', 'tcp:'), 'tcp');
  const connection = {
    server: new URL(network.address.replace('tcp:', 'https:')),
    tls: { ca: cluster.ca },
    headers: { Authorization: `Bearer ${token}` },
    namespace: 'default',
  };
  const clock = new SystemClock();
  const clients: KubeClient[] = [];
  const stores: KubeWorkspaceStore[] = [];
  const stop = new AbortController();
  const pathOf = (key: WorkspaceKey): string => {
    const { namespace, name } = splitWorkspaceKey(key);
    return `${workspacesIn(namespace)}/${name}`;
  };
  return {
    async open() {
      const client = new KubeClient({
        access: new KubeAccess({ open: async () => async () => connection, clock }),
        clock,
      });
      clients.push(client);
      const store = new KubeWorkspaceStore({
        client,
        namespaces,
        state: new KubeControllerState({ client, namespace: 'default' }),
        logger: new RecordingLogger(),
        metrics: recordingMetrics(),
      });
      stores.push(store);
      try {
        await store.sync(stop.signal);
      } catch (error) {
        await store.close();
        throw error;
      }
      return store;
    },
    async declare({ metadata: { namespace = 'default', name, ...metadata }, ...manifest }) {
      await cluster.call('PATCH', `${workspacesIn(namespace)}/${name}?fieldManager=somebody&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: { ...manifest, metadata: { ...metadata, name, namespace } },
      });
    },
    async remove(key) {
      await cluster.call('DELETE', pathOf(key));
    },
    async malform(key) {
      // More than one may hold, which no definition can say.
      const config = { text: 'x'.repeat(70_000) };
      await cluster.call('PATCH', `${pathOf(key)}?fieldManager=somebody`, {
        contentType: 'application/json-patch+json',
        body: [{ op: 'add', path: '/spec/plugins/0/config', value: config }],
      });
    },
    break: async () => network.refuse(),
    heal: async () => network.heal(),
    // A new watch is told from a list that is as new as it.
    settled: async () => {
      const done = new AbortController();
      await Promise.all(stores.map((store) => store.watch(() => undefined, done.signal)));
      done.abort();
    },
    fence: (turn) => ({ authority: 'suite', epoch: 1, n: turn }),
    async dispose() {
      stop.abort(new Error('the case is over'));
      for (const client of clients) client.close();
      await network.close();
      await clear(cluster);
    },
  };
}

interface Listed {
  readonly items: readonly { readonly metadata: { readonly name: string; readonly finalizers?: readonly string[] } }[];
}

async function clear(cluster: Cluster): Promise<void> {
  for (const namespace of NAMESPACES) {
    await cluster.call('DELETE', workspacesIn(namespace));
    const { items } = await cluster.call<Listed>('GET', workspacesIn(namespace));
    for (const { metadata } of items)
      await cluster.call('PATCH', `${workspacesIn(namespace)}/${metadata.name}`, {
        contentType: 'application/merge-patch+json',
        body: { metadata: { finalizers: null } },
      });
  }
  const ours = 'labelSelector=app.kubernetes.io%2Fmanaged-by%3Dplugset';
  await cluster.call('DELETE', `/api/v1/namespaces/default/configmaps?${ours}`);
}
