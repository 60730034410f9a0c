import { KubeAccess } from './adapters/kube/kube-access.ts';
import { KubeClient } from './adapters/kube/kube-client.ts';
import { inClusterConnection } from './adapters/kube/in-cluster.ts';
import { openKubeconfig } from './adapters/kube/kubeconfig.ts';
import { answered } from './adapters/kube/store-answer.ts';
import type { KubernetesConfig } from './config.ts';
import type { Clock } from './ports/clock.ts';
import type { Metrics } from './ports/metrics.ts';

export interface KubeOptions {
  readonly config: KubernetesConfig;
  readonly clock: Clock;
  readonly metrics?: Pick<Metrics, 'kubeAsked'> | undefined;
}

/** The one way to the cluster, for the store and for targets that are pods. Nothing is read or asked before somebody asks. */
export class Kube {
  readonly #options: KubeOptions;
  readonly #access: KubeAccess;
  #client: KubeClient | undefined;
  #leaseClient: KubeClient | undefined;

  constructor(options: KubeOptions) {
    const { config, clock } = options;
    const { inCluster, kubeconfigs: paths, context } = config;
    this.#options = options;
    this.#access = new KubeAccess({
      clock,
      open:
        inCluster === undefined ? () => openKubeconfig({ paths, context }) : async () => inClusterConnection(inCluster),
    });
  }

  get client(): KubeClient {
    return (this.#client ??= this.#newClient());
  }

  /** With connections of its own: a renewal that waits behind status writes comes late. */
  get leaseClient(): KubeClient {
    return (this.#leaseClient ??= this.#newClient(2));
  }

  /** What is meant where nobody names a namespace: the pod's own, or that of the context. */
  async namespace(signal: AbortSignal): Promise<string> {
    const { namespace = '' } = await answered(this.#access.current(signal), signal);
    return namespace === '' ? 'default' : namespace;
  }

  /** Cuts what is under way. Idempotent. */
  close(): void {
    this.#client?.close();
    this.#leaseClient?.close();
  }

  #newClient(connections?: number): KubeClient {
    const { clock, metrics } = this.#options;
    return new KubeClient({
      access: this.#access,
      clock,
      metrics,
      ...(connections === undefined ? {} : { connections }),
    });
  }
}
