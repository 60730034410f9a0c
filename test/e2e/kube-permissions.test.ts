import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { withBackend } from '../support/backend.ts';
import type { AuditEvent, Cluster } from '../support/kube/cluster.ts';
import { NamespaceWorkspaces, startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { createNamespace } from '../support/kube/namespace.ts';
import { KubeNode } from '../support/kube/node.ts';
import { applyOverlay, renderOverlay, type OverlayName } from '../support/kube/overlay.ts';
import { grantedBy, usedBy } from '../support/kube/permissions.ts';
import { deletePod, startPod } from '../support/kube/pod.ts';
import { untilWorkspacesAreServed } from '../support/kube/workspace-crd.ts';

interface ClusterRole {
  readonly rules: readonly { readonly resources: readonly string[]; readonly verbs: readonly string[] }[];
}

const OWN = 'plugset-system';
const USER = `system:serviceaccount:${OWN}:plugset`;

await withBackend('kube-apiserver', async (programs) => {
  await withBackend('kubelet', (kubelet) => define(programs, kubelet));
});

/** `programs`, `kubelet`: directories of them. */
function define(programs: string, kubelet: string): void {
  describe('plugset as its ServiceAccount, under the rules of an overlay', () => {
    let plane: ControlPlane;
    let cluster: Cluster;
    let node: KubeNode;
    let plugset: ClusterPlugset | undefined;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      ({ cluster } = plane);
      await createNamespace(cluster, 'agents');
      node = await KubeNode.start(cluster, kubelet);
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await cluster.kubectl(['delete', 'clusterrolebinding,clusterrole', 'plugset-workspaces', '--ignore-not-found']);
      await cluster.kubectl(['delete', '-n', OWN, 'leases,configmaps', '--all']);
    });
    afterAll(async () => {
      await node.stop();
      await plane.stop();
    });

    const start = async (overlay: OverlayName, isDaemon = true): Promise<ClusterPlugset> => {
      await applyOverlay(cluster, overlay);
      await untilWorkspacesAreServed(cluster);
      plugset = await startClusterPlugset({
        cluster,
        token: await cluster.serviceAccountToken(OWN, 'plugset'),
        stateNamespace: OWN,
        idle: !isDaemon,
        ...(overlay === 'namespace' ? { namespaces: ['agents'] } : {}),
        settings: ({ root }) => ({ targets: { directory: { roots: [{ path: root, namespaces: ['agents'] }] } } }),
      });
      for (const name of ['one', 'two']) await plugset.release(name, `${name}\n`);
      return plugset;
    };

    /** The lives of a pod and of a directory, with all that can become of them. */
    const live = async ({ dirs }: ClusterPlugset): Promise<void> => {
      const workspaces = new NamespaceWorkspaces(cluster, 'agents');
      const path = join(dirs.root, 'bob');
      await mkdir(path);
      await workspaces.declare('bob', { directory: { path } }, ['one', 'two']);
      await workspaces.untilReady('bob');
      await writeFile(join(path, 'plugins/one/SKILL.md'), 'edited');
      await workspaces.until('bob', ({ corrective }) => expect(corrective).toBe(1));
      // What happens twice within minutes is one event, counted.
      for (const suspend of [true, false, true, false]) {
        await workspaces.declare('bob', { directory: { path } }, ['one', 'two'], { suspend });
        await workspaces.until('bob', ({ conditions }) =>
          expect(findCondition(conditions, 'Ready')?.reason).toBe(suspend ? 'Suspended' : 'Succeeded'),
        );
      }
      await workspaces.declare('bob', { directory: { path } }, ['two']);
      await workspaces.until('bob', ({ summary }) => expect(summary).toBe('1/1'));
      const labels = { 'plugset.dev/workspace': 'alice' };
      await startPod(node, { name: 'agent', namespace: 'agents', labels });
      await workspaces.declare('alice', { pod: {} }, ['one']);
      await workspaces.untilReady('alice');
      const inPod = ['exec', '-n', 'agents', 'agent', '--', 'ls', '/configs/plugins'];
      expect(await cluster.kubectl(inPod)).toBe('one\n');
      await workspaces.delete('bob');
      await workspaces.delete('alice');
      expect(await cluster.kubectl(inPod)).toBe('');
      await deletePod(node, 'agents', 'agent');
    };

    it.each(['cluster', 'namespace'] as const)(
      '%s: asks for everything that it may, and for nothing else',
      async (overlay) => {
        const before = (await cluster.auditEvents()).length;
        const running = await start(overlay);
        await live(running);
        await running.stop();
        // A daemon clears up what it remembers once an hour, and a run of single passes at its end.
        await (await start(overlay, false)).app.once(undefined, AbortSignal.timeout(60_000));
        await plugset?.stop();
        plugset = undefined;
        const events = (await cluster.auditEvents()).slice(before);
        const refused = events.filter(
          ({ user, responseStatus }: AuditEvent) => user.username === USER && responseStatus?.code === 403,
        );
        expect(refused).toEqual([]);
        const granted = grantedBy(await renderOverlay(cluster, overlay));
        // A WebSocket is a GET in the log; whether it may create as well is asked beside it, and not logged.
        expect([...usedBy(USER, events, OWN), 'workspaces: pods/exec create'].toSorted()).toEqual(granted);
      },
    );

    it.each(['get', 'create'])('reaches no pod without the verb %s', async (verb) => {
      await start('cluster');
      const path = '/apis/rbac.authorization.k8s.io/v1/clusterroles/plugset-workspaces';
      const { rules } = await cluster.call<ClusterRole>('GET', path);
      const lacking = rules.map((rule) =>
        rule.resources.includes('pods/exec') ? { ...rule, verbs: rule.verbs.filter((one) => one !== verb) } : rule,
      );
      await cluster.call('PATCH', path, {
        contentType: 'application/merge-patch+json',
        body: { rules: lacking },
      });
      await startPod(node, { name: 'agent', namespace: 'agents' });
      const workspaces = new NamespaceWorkspaces(cluster, 'agents');
      const policy = { deletion: 'Orphan' };
      await workspaces.declare('carol', { pod: { name: 'agent' } }, ['one'], { policy });
      await workspaces.until('carol', ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')?.reason).toBe('AccessDenied'),
      );
      await workspaces.delete('carol');
      await deletePod(node, 'agents', 'agent');
    });
  });
}
