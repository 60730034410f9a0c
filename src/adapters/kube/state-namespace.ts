import type { KubeClient } from './kube-client.ts';
import { LEASE_NAME } from './kube-lease.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { answered } from './store-answer.ts';

/** Where `manifests/kustomize` puts a controller. */
const USUAL = 'plugset-system';

/**
 * The namespace in which a controller keeps what it remembers, for whoever wants to tell it something and was not told where
 * it is: what is left elsewhere would be heard by nobody. `home` where there is none.
 */
export async function findStateNamespace(client: KubeClient, home: string, signal: AbortSignal): Promise<string> {
  for (const namespace of [home, USUAL]) {
    const path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/leases/${LEASE_NAME}`;
    const isThere = client.call({ method: 'GET', path }, signal).then(
      () => true,
      (thrown: unknown) => {
        // Who may read a namespace need not be let into every other one.
        if (thrown instanceof KubeRefusal && [403, 404].includes(thrown.status)) return false;
        throw thrown;
      },
    );
    if (await answered(isThere, signal)) return namespace;
  }
  return home;
}
