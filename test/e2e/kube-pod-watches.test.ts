import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import type { AuditEvent, Cluster } from '../support/kube/cluster.ts';
import { NamespaceWorkspaces, startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { createNamespace } from '../support/kube/namespace.ts';
import { applyOverlay } from '../support/kube/overlay.ts';
import { untilWorkspacesAreServed } from '../support/kube/workspace-crd.ts';

const OWN = 'plugset-system';
const NAMESPACES = Array.from({ length: 40 }, (_, index) => `team-${index}`);
/** Where a workspace names its pod. */
const NAMED = 'team-7';
const EVERYWHERE = '*';

function namespacesOf(events: readonly AuditEvent[]): readonly string[] {
  return events.map(({ objectRef }) => objectRef?.namespace ?? EVERYWHERE).toSorted();
}

await withBackend('kube-apiserver', (programs) => {
  describe('the pods of many namespaces', () => {
    let plane: ControlPlane;
    let cluster: Cluster;
    let daemons: ClusterPlugset[];
    let before: number;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      ({ cluster } = plane);
      await applyOverlay(cluster, 'cluster');
      await untilWorkspacesAreServed(cluster);
      await mapAtOnce(8, NAMESPACES, async (namespace) => {
        await createNamespace(cluster, namespace);
        await createPod(namespace, 'agent', { 'plugset.dev/workspace': 'alice' });
        await createPod(namespace, 'of-others', { app: 'web' });
        const workspaces = new NamespaceWorkspaces(cluster, namespace);
        await workspaces.declare('alice', namespace === NAMED ? { pod: { name: 'agent' } } : { pod: {} }, []);
      });
    });
    beforeEach(async () => {
      daemons = [];
      before = (await cluster.auditEvents()).length;
    });
    afterEach(async () => {
      for (const daemon of daemons) await daemon.stop();
      await cluster.kubectl(['delete', '-n', OWN, 'leases,configmaps', '--all']);
    });
    afterAll(() => plane.stop());

    /** Nobody gives it a node. */
    const createPod = (namespace: string, name: string, labels: Readonly<Record<string, string>>): Promise<unknown> =>
      cluster.call('POST', `/api/v1/namespaces/${namespace}/pods`, {
        body: {
          apiVersion: 'v1',
          kind: 'Pod',
          metadata: { name, labels },
          spec: { automountServiceAccountToken: false, containers: [{ name: 'main', image: 'plugset.test/none:1' }] },
        },
      });
    const tokenOfPlugset = (): Promise<string> => cluster.serviceAccountToken(OWN, 'plugset');
    const start = async (): Promise<ClusterPlugset> => {
      const token = await tokenOfPlugset();
      const daemon = await startClusterPlugset({ cluster, token, stateNamespace: OWN });
      daemons.push(daemon);
      return daemon;
    };
    const untilReason = async (namespace: string, reason: string): Promise<void> => {
      await new NamespaceWorkspaces(cluster, namespace).until('alice', ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')?.reason).toBe(reason),
      );
    };
    const podEvents = async (verb: 'list' | 'watch'): Promise<readonly AuditEvent[]> => {
      const events = (await cluster.auditEvents()).slice(before);
      return events.filter((event) => event.verb === verb && event.objectRef?.resource === 'pods');
    };
    /** Of which namespace, for each request for the pods of one or of all. */
    const asked = async (verb: 'list' | 'watch'): Promise<readonly string[]> => namespacesOf(await podEvents(verb));
    /** The same of watches that have ended. */
    const unwatched = async (): Promise<readonly string[]> =>
      namespacesOf((await podEvents('watch')).filter(({ stage }) => stage === 'ResponseComplete'));
    const untilWatched = (...namespaces: readonly string[]): Promise<void> =>
      eventually(async () => expect(new Set(await asked('watch'))).toEqual(new Set(namespaces)));
    const podsKnownTo = async (daemon: ClusterPlugset): Promise<number> => {
      const line = /^plugset_kube_objects\{[^}]*resource="pods"[^}]*\} (\d+)$/m.exec(await daemon.read('/metrics'));
      return Number(line?.[1]);
    };

    it('are watched by two, and a standby knows them before it leads', async () => {
      const leader = await start();
      for (const namespace of NAMESPACES) await untilReason(namespace, 'PodPending');
      // Those of other people are known where a pod is named, and nowhere else.
      const known = NAMESPACES.length + 2;
      expect(await podsKnownTo(leader)).toBe(known);
      await untilWatched(EVERYWHERE, NAMED);
      expect(await asked('list')).toEqual([EVERYWHERE, NAMED]);

      const standby = await start();
      await eventually(async () => expect(await podsKnownTo(standby)).toBe(known));
      await leader.stop();
      await eventually(() => expect(standby.logger.lines.some(({ message }) => message === 'leading')).toBe(true));
      await cluster.call('DELETE', '/api/v1/namespaces/team-1/pods/agent?gracePeriodSeconds=0');
      await untilReason('team-1', 'WorkspaceNotFound');
      expect(await asked('list'), 'each has listed once').toEqual([EVERYWHERE, EVERYWHERE, NAMED, NAMED]);
      await createPod('team-1', 'agent', { 'plugset.dev/workspace': 'alice' });
      await untilReason('team-1', 'PodPending');
    });

    it('are watched by a standby under its newest settings, and under no others', async () => {
      const leader = await start();
      for (const namespace of NAMESPACES) await untilReason(namespace, 'PodPending');
      const known = await podsKnownTo(leader);
      const standby = await start();
      await eventually(async () => expect(await asked('watch')).toHaveLength(4));
      standby.app.reconfigure(standby.config);
      await eventually(async () => expect(await asked('list')).toHaveLength(6));
      await eventually(async () => expect(await podsKnownTo(standby)).toBe(known));
      await eventually(async () => expect(await unwatched()).toEqual([EVERYWHERE, NAMED]));
    });

    /** The API server takes a moment to learn of new rules. */
    const untilHeardOf = async (): Promise<void> => {
      const token = await tokenOfPlugset();
      await eventually(async () => {
        await cluster.call('GET', '/api/v1/namespaces/team-1/pods?limit=1', { token });
        await expect(cluster.call('GET', '/api/v1/pods?limit=1', { token })).rejects.toMatchObject({ status: 403 });
      });
      before = (await cluster.auditEvents()).length;
    };

    it('are watched one by one where plugset may not watch those of the cluster', async () => {
      const inTeam = ['-n', 'team-1'];
      const path = '/apis/rbac.authorization.k8s.io/v1/clusterroles/plugset-workspaces';
      const role = await cluster.call<{ readonly rules: readonly { readonly resources: readonly string[] }[] }>(
        'GET',
        path,
      );
      const allow = (rules: readonly object[]): Promise<unknown> =>
        cluster.call('PATCH', path, { contentType: 'application/merge-patch+json', body: { rules } });
      await cluster.kubectl([...inTeam, 'create', 'role', 'pods', '--verb=list,watch', '--resource=pods']);
      await cluster.kubectl([
        ...inTeam,
        'create',
        'rolebinding',
        'pods',
        '--role=pods',
        `--serviceaccount=${OWN}:plugset`,
      ]);
      try {
        await allow(role.rules.filter(({ resources }) => !resources.includes('pods')));
        await cluster.call('DELETE', '/api/v1/namespaces/team-1/pods/agent?gracePeriodSeconds=0');
        await untilHeardOf();
        const daemon = await start();
        await untilReason('team-1', 'WorkspaceNotFound');
        await untilReason('team-2', 'AccessDenied');
        await createPod('team-1', 'agent', { 'plugset.dev/workspace': 'alice' });
        await untilReason('team-1', 'PodPending');
        await untilWatched('team-1');
        expect((await asked('list')).filter((namespace) => namespace === EVERYWHERE)).toHaveLength(1);
        expect(await daemon.read('/readyz')).toContain('ok');
      } finally {
        await allow(role.rules);
        await cluster.kubectl([...inTeam, 'delete', 'rolebinding,role', 'pods']);
      }
    });
  });
});
