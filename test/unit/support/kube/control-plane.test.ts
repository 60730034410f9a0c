import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';

import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';

import { withBackend } from '../../../support/backend.ts';
import { eventually } from '../../../support/eventually.ts';
import { Cluster } from '../../../support/kube/cluster.ts';
import { ControlPlane } from '../../../support/kube/control-plane.ts';
import { createNamespace, removeNamespace } from '../../../support/kube/namespace.ts';

await withBackend('kubernetes', (address) => {
  describe('the cluster of a run', () => {
    let cluster: Cluster;

    beforeAll(async () => {
      cluster = await Cluster.at(address);
    });

    it('is ready, and of the version that kubectl has', async () => {
      expect(await cluster.ask('GET', '/readyz')).toBe('ok');
      const { clientVersion, serverVersion } = JSON.parse(await cluster.kubectl(['version', '-o', 'json'])) as Versions;
      expect(serverVersion.gitVersion).toMatch(/^v1\.\d+\.\d+$/);
      expect(clientVersion).toMatchObject({ gitVersion: serverVersion.gitVersion });
    });

    it('gives a test a namespace, and takes it back with everything in it', async () => {
      const namespace = await createNamespace(cluster);
      const path = `/api/v1/namespaces/${namespace}`;
      expect(await names(cluster, `${path}/serviceaccounts`)).toEqual(['default']);
      await cluster.call('POST', `${path}/configmaps`, {
        body: { metadata: { name: 'held', finalizers: ['plugset.dev/test'] }, data: {} },
      });
      await removeNamespace(cluster, namespace);
      await expect(cluster.call('GET', path)).rejects.toMatchObject({ status: 404 });
      expect(await names(cluster, `${path}/configmaps`)).toEqual([]);
    });

    it('lets others than its administrator do what they were granted', async () => {
      const namespace = await newNamespace(cluster);
      const path = `/api/v1/namespaces/${namespace}/configmaps`;
      const asAlice = { token: cluster.tokens.alice };
      await expect(cluster.call('GET', path, asAlice)).rejects.toMatchObject({ status: 403 });
      await cluster.kubectl(['create', 'role', 'look', '-n', namespace, '--verb=list', '--resource=configmaps']);
      await cluster.kubectl(['create', 'rolebinding', 'alice', '-n', namespace, '--role=look', '--user=alice']);
      await eventually(() => cluster.call('GET', path, asAlice));
      await expect(cluster.call('GET', path, { token: cluster.tokens.bob })).rejects.toMatchObject({ status: 403 });
    });

    it('hands out tokens of ServiceAccounts, and says in its audit log what was done with them', async () => {
      const namespace = await newNamespace(cluster);
      const token = await cluster.serviceAccountToken(namespace, 'default');
      const path = `/api/v1/namespaces/${namespace}/secrets`;
      await expect(cluster.call('GET', path, { token })).rejects.toMatchObject({ status: 403 });
      await eventually(async () => {
        const events = (await cluster.auditEvents()).filter(({ requestURI }) => requestURI === path);
        expect(events).toMatchObject([
          {
            verb: 'list',
            user: { username: `system:serviceaccount:${namespace}:default` },
            objectRef: { resource: 'secrets', namespace },
            responseStatus: { code: 403 },
          },
        ]);
      });
    });
  });
});

await withBackend('kube-apiserver', (bin) => {
  describe('a control plane of a test’s own', () => {
    let plane: ControlPlane;

    beforeAll(async () => {
      plane = await ControlPlane.start(bin);
    });
    afterAll(() => plane.stop());

    it('can be killed, and comes back under its address with what it knew', async () => {
      const { cluster } = plane;
      const namespace = await newNamespace(cluster);
      await plane.killApiServer();
      await expect(cluster.ask('GET', '/readyz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      await plane.startApiServer();
      expect(await names(cluster, '/api/v1/namespaces')).toContain(namespace);
    });

    it('says nothing while it is frozen', async () => {
      const { cluster } = plane;
      plane.freezeApiServer();
      await expect(cluster.ask('GET', '/readyz', { timeoutMs: 300 })).rejects.toThrow('the API server is silent');
      const patient = cluster.ask('GET', '/readyz');
      plane.thawApiServer();
      expect(await patient).toBe('ok');
    });

    it('forgets what was before a compaction, once it has been started again', async () => {
      const { cluster } = plane;
      const namespace = await newNamespace(cluster);
      const path = `/api/v1/namespaces/${namespace}/configmaps`;
      const { metadata } = await cluster.call<List>('GET', path);
      const watch = `${path}?watch=true&timeoutSeconds=1&resourceVersion=${metadata.resourceVersion}`;
      await cluster.call('POST', path, { body: { metadata: { name: 'one' } } });
      expect(await cluster.ask('GET', watch)).toContain('"type":"ADDED"');
      expect(await plane.compactEtcd()).toBeGreaterThan(Number(metadata.resourceVersion));
      await plane.killApiServer();
      await plane.startApiServer();
      expect(await cluster.ask('GET', watch)).toMatch(/"type":"ERROR".*"code":410/);
    });
  });

  it('leaves nothing of a control plane that was stopped while it was frozen', async () => {
    const plane = await ControlPlane.start(bin);
    plane.freezeApiServer();
    await plane.stop();
    expect(await readdir(tmpdir())).not.toContain(plane.cluster.directory.split('/').at(-1));
    await expect(plane.cluster.ask('GET', '/readyz')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });
});

interface Versions {
  readonly clientVersion: { readonly gitVersion: string };
  readonly serverVersion: { readonly gitVersion: string };
}

interface List {
  readonly metadata: { readonly resourceVersion: string };
  readonly items: readonly { readonly metadata: { readonly name: string } }[];
}

async function newNamespace(cluster: Cluster): Promise<string> {
  const namespace = await createNamespace(cluster);
  onTestFinished(() => removeNamespace(cluster, namespace));
  return namespace;
}

async function names(cluster: Cluster, path: string): Promise<readonly string[]> {
  return (await cluster.call<List>('GET', path)).items.map(({ metadata }) => metadata.name);
}
