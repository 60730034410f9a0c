import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { withBackend } from '../support/backend.ts';
import { NamespaceWorkspaces, startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { deletePod, startPod } from '../support/kube/pod.ts';
import { CONFIG_DIR } from '../support/kube/pod-host.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  const { cluster } = node;

  describe('a pod that custom resources claim', () => {
    let home: string;
    let other: string;
    let workspaces: NamespaceWorkspaces;
    let plugset: ClusterPlugset | undefined;

    beforeAll(() => installWorkspaceCrd(cluster));
    beforeEach(async () => {
      [home, other] = await Promise.all([createNamespace(cluster), createNamespace(cluster)]);
      workspaces = new NamespaceWorkspaces(cluster, home);
    });
    afterEach(async () => {
      await plugset?.stop();
      plugset = undefined;
      await Promise.all([home, other].map((namespace) => removeNamespace(cluster, namespace)));
    });

    const start = async (): Promise<void> => {
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        stateNamespace: home,
        namespaces: [home, other],
      });
      for (const name of ['one', 'two']) await plugset.release(name, `${name}\n`);
    };
    const startAgent = (namespace: string): Promise<void> =>
      startPod(node, { name: 'agent', namespace, labels: { app: 'agent' } });
    const filesIn = async (namespace: string): Promise<readonly string[]> => {
      const list = ['exec', '-n', namespace, 'agent', '--', 'find', CONFIG_DIR, '-mindepth', '1', '-maxdepth', '2'];
      return (await cluster.kubectl(list)).split('\n').filter((path) => path !== '');
    };
    /** By whoever: a look, an install and the test itself all come in this way. */
    const execsInto = async (namespace: string): Promise<number> => {
      const events = await cluster.auditEvents();
      return events.filter(({ objectRef }) => objectRef?.namespace === namespace && objectRef.subresource === 'exec')
        .length;
    };
    const untilClaimed = async (name: string, message: RegExp): Promise<void> => {
      await workspaces.until(name, ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')).toMatchObject({
          status: 'False',
          reason: 'TargetClaimed',
          message: expect.stringMatching(message) as string,
        }),
      );
    };

    const untilReason = async (name: string, reason: string): Promise<void> => {
      await workspaces.until(name, ({ conditions }) => expect(findCondition(conditions, 'Ready')?.reason).toBe(reason));
    };

    it('goes on for whom its receipts name, and the newcomer waits until that one is gone', async () => {
      await startAgent(home);
      await start();
      await workspaces.declare('alice', { pod: { name: 'agent' } }, ['one'], { policy: { deletion: 'Remove' } });
      await workspaces.untilReady('alice');

      // By another way to the same pod.
      await workspaces.declare('bob', { pod: { selector: { app: 'agent' } } }, ['two']);
      await untilClaimed('bob', new RegExp(`belongs to workspace ${home}/alice, as the receipts on it say`));
      await workspaces.declare('alice', { pod: { name: 'agent' } }, ['one', 'two'], { policy: { deletion: 'Remove' } });
      await workspaces.untilReady('alice');
      await untilClaimed('bob', /belongs to workspace/);

      await workspaces.delete('alice');
      await workspaces.untilReady('bob');
      expect(await filesIn(home)).toContain(`${CONFIG_DIR}/plugins/two`);
      expect(await filesIn(home)).not.toContain(`${CONFIG_DIR}/plugins/one`);
    });

    it('is left alone while two claim it and it has no receipt', async () => {
      await startAgent(home);
      await workspaces.declare('castor', { pod: { name: 'agent' } }, ['one']);
      await workspaces.declare('pollux', { pod: { name: 'agent' } }, ['two']);
      await start();
      await untilClaimed('castor', /is claimed by .*\/pollux too, and nothing on it says whose it is/);
      await untilClaimed('pollux', /is claimed by .*\/castor too, and nothing on it says whose it is/);
      expect(await filesIn(home)).toEqual([]);

      await workspaces.delete('pollux');
      await workspaces.untilReady('castor');
      expect(await filesIn(home)).toContain(`${CONFIG_DIR}/plugins/one`);
    });

    it('is left alone too where the two mean it in different ways, also after it was replaced', async () => {
      await startAgent(home);
      await workspaces.declare('castor', { pod: { name: 'agent' } }, ['one']);
      await workspaces.declare('pollux', { pod: { selector: { app: 'agent' } } }, ['two']);
      await start();
      await untilClaimed('castor', /is claimed by .*\/pollux too, and nothing on it says whose it is/);
      await untilClaimed('pollux', /is claimed by .*\/castor too, and nothing on it says whose it is/);

      await deletePod(node, home, 'agent');
      await untilReason('castor', 'WorkspaceNotFound');
      await untilReason('pollux', 'WorkspaceNotFound');
      await startAgent(home);
      await untilReason('castor', 'TargetClaimed');
      await untilReason('pollux', 'TargetClaimed');
      expect(await filesIn(home)).toEqual([]);

      await workspaces.delete('castor');
      await workspaces.untilReady('pollux');
      expect(await filesIn(home)).toContain(`${CONFIG_DIR}/plugins/two`);
    });

    it('is of the namespace of whoever claims it, whatever is called and labelled alike elsewhere', async () => {
      await Promise.all([startAgent(home), startAgent(other)]);
      await start();
      await workspaces.declare('named', { pod: { name: 'agent' } }, ['one']);
      await workspaces.untilReady('named');
      await workspaces.delete('named');
      await workspaces.declare('labelled', { pod: { selector: { app: 'agent' } } }, ['two']);
      await workspaces.untilReady('labelled');
      expect(await execsInto(home)).toBeGreaterThan(0);
      expect(await execsInto(other), 'nobody ran anything there').toBe(0);
      expect(await filesIn(other)).toEqual([]);
    });
  });
});
