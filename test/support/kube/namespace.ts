import { randomBytes } from 'node:crypto';

import { ClusterError, type Cluster } from './cluster.ts';

interface GroupList {
  readonly groups: readonly { readonly preferredVersion: { readonly groupVersion: string } }[];
}

interface ResourceList {
  readonly resources: readonly {
    readonly name: string;
    readonly namespaced: boolean;
    readonly verbs: readonly string[];
  }[];
}

interface ObjectList {
  readonly items: readonly { readonly metadata: { readonly name: string; readonly finalizers?: readonly string[] } }[];
}

/** A new namespace, with what the controller manager of a whole cluster would put into it; answers its name. */
export async function createNamespace(
  cluster: Cluster,
  name = `test-${randomBytes(4).toString('hex')}`,
): Promise<string> {
  const create = (path: string, kind: string, object: object): Promise<unknown> =>
    cluster.call('POST', path, { body: { apiVersion: 'v1', kind, ...object } });
  await create('/api/v1/namespaces', 'Namespace', { metadata: { name } });
  const inside = `/api/v1/namespaces/${name}`;
  await create(`${inside}/serviceaccounts`, 'ServiceAccount', { metadata: { name: 'default' } });
  await create(`${inside}/configmaps`, 'ConfigMap', {
    metadata: { name: 'kube-root-ca.crt' },
    data: { 'ca.crt': cluster.ca },
  });
  return name;
}

/** Removes it with all that is in it, finalizers or not, as nobody else here would. */
export async function removeNamespace(cluster: Cluster, name: string): Promise<void> {
  await cluster.call('DELETE', `/api/v1/namespaces/${name}`);
  const kinds = await deletableKinds(cluster);
  await Promise.all(kinds.map((kind) => empty(cluster, kind.replace('*', name))));
  await cluster.call('PUT', `/api/v1/namespaces/${name}/finalize`, {
    body: { apiVersion: 'v1', kind: 'Namespace', metadata: { name }, spec: { finalizers: [] } },
  });
}

/** Paths of everything that a namespace can hold, with `*` for its name. */
async function deletableKinds(cluster: Cluster): Promise<readonly string[]> {
  const { groups } = await cluster.call<GroupList>('GET', '/apis');
  const roots = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const found = await Promise.all(
    roots.map(async (root) => {
      const list = await unlessGone(cluster.call<ResourceList>('GET', root));
      return (list?.resources ?? [])
        .filter(({ namespaced, verbs }) => namespaced && verbs.includes('deletecollection'))
        .map((resource) => `${root}/namespaces/*/${resource.name}`);
    }),
  );
  return found.flat();
}

async function empty(cluster: Cluster, path: string): Promise<void> {
  await unlessGone(cluster.call('DELETE', `${path}?gracePeriodSeconds=0`));
  const left = await unlessGone(cluster.call<ObjectList>('GET', path));
  for (const { metadata } of left?.items ?? []) {
    if (metadata.finalizers === undefined) continue;
    const withoutFinalizers = {
      contentType: 'application/merge-patch+json',
      body: { metadata: { finalizers: null } },
    };
    await unlessGone(cluster.call('PATCH', `${path}/${metadata.name}`, withoutFinalizers));
  }
}

/** Whoever held an object may just have let it go, and another test taken its whole kind away. */
async function unlessGone<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ClusterError && error.status === 404) return undefined;
    throw error;
  }
}
