import { KubeAccess } from '../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../src/adapters/kube/kube-client.ts';
import { SystemClock } from '../../../src/adapters/system/clock.ts';
import { FaultProxy } from '../fault-proxy.ts';
import { Cluster } from './cluster.ts';
import { createNamespace, removeNamespace } from './namespace.ts';

/** A fresh namespace that what is tested reaches through a network that can be cut, and the test itself directly. */
export interface ProxiedNamespace {
  readonly cluster: Cluster;
  readonly namespace: string;
  readonly network: FaultProxy;
  /** One more process' client, through the proxy, as the administrator. Closed by `dispose`. */
  connect(): KubeClient;
  dispose(): Promise<void>;
}

/** `directory`: what `withBackend('kubernetes', …)` names. */
export async function proxiedNamespace(directory: string): Promise<ProxiedNamespace> {
  const cluster = await Cluster.at(directory);
  const namespace = await createNamespace(cluster);
  const network = await FaultProxy.open(cluster.server.replace('https:', 'tcp:'), 'tcp');
  const connection = {
    server: new URL(network.address.replace('tcp:', 'https:')),
    tls: { ca: cluster.ca },
    headers: { Authorization: `Bearer ${cluster.tokens.admin}` },
    namespace,
  };
  const clock = new SystemClock();
  const clients: KubeClient[] = [];
  return {
    cluster,
    namespace,
    network,
    connect: () => {
      const access = new KubeAccess({ open: async () => async () => connection, clock });
      const client = new KubeClient({ access, clock });
      clients.push(client);
      return client;
    },
    dispose: async () => {
      for (const client of clients) client.close();
      await network.close();
      await removeNamespace(cluster, namespace);
    },
  };
}
