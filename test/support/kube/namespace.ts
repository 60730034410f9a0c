import { randomBytes } from 'node:crypto';

import { ClusterError, type Cluster } from './cluster.ts';

interface Resource {
  readonly name: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
}

interface ObjectMeta {
  readonly name: string;
  readonly finalizers?: readonly string[];
}

/** A new namespace, with what the controller manager of a whole cluster would put into it; answers its name. */
export async function createNamespace(cluster: Cluster): Promise<string> {
  const name = `test-${randomBytes(4).toString('hex')}`;
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
  const { groups } = await cluster.call<{
    readonly groups: readonly { readonly preferredVersion: { readonly groupVersion: string } }[];
  }>('GET', '/apis');
  const roots = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const found = await Promise.all(
    roots.map(async (root) => {
      const { resources } = await unlessGone(cluster.call<{ readonly resources: readonly Resource[] }>('GET', root), {
        resources: [],
      });
      return resources
        .filter(({ namespaced, verbs }) => namespaced && verbs.includes('deletecollection'))
        .map((resource) => `${root}/namespaces/*/${resource.name}`);
    }),
  );
  return found.flat();
}

async function empty(cluster: Cluster, path: string): Promise<void> {
  await unlessGone(cluster.call('DELETE', `${path}?gracePeriodSeconds=0`), undefined);
  const { items } = await unlessGone(
    cluster.call<{ readonly items: readonly { readonly metadata: ObjectMeta }[] }>('GET', path),
    { items: [] },
  );
  for (const { metadata } of items) {
    if (metadata.finalizers === undefined) continue;
    const body = { metadata: { finalizers: null } };
    await unlessGone(
      cluster.call('PATCH', `${path}/${metadata.name}`, { contentType: 'application/merge-patch+json', body }),
      undefined,
    );
  }
}

/** Somebody else's test may take the resource itself away. */
async function unlessGone<T>(asked: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ClusterError && error.status === 404) return otherwise;
    throw error;
  }
}
