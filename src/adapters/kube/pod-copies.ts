import type { Logger } from '../../ports/logger.ts';
import type { ReflectorState } from '../../ports/metrics.ts';
import { WORKSPACE_LABEL } from '../../domain/workspace.ts';
import { isWished, type PodWish } from './choose-pod.ts';
import type { KubeClient } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import type { Change } from './object-store.ts';
import { podFrom, type Pod } from './pod.ts';
import { stateOfAll } from './reflector-states.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

const RESOURCE = 'pods';

export interface PodCopiesOptions {
  readonly client: KubeClient;
  readonly logger: Logger;
  readonly metrics: ReflectorOptions<Pod>['metrics'];
  /** Something of a pod changed that is kept of it. */
  readonly onChange: (change: Change<Pod>) => void;
}

/**
 * Copies of the pods of those namespaces where a workspace means one, from the first on: of those that are labelled for a
 * workspace, and of all only where somebody names one in another way.
 */
export class PodCopies {
  readonly #options: PodCopiesOptions;
  readonly #copies = new Map<string, Reflector<Pod>>();
  readonly #runs: Promise<void>[] = [];
  readonly #closing = new AbortController();

  constructor(options: PodCopiesOptions) {
    this.#options = options;
  }

  /**
   * Pods that a wish names, of the copy; while nothing is heard of the API server it is asked, for then the copy may be of a
   * time that is over. Throws what the list of the pods came to.
   */
  async find(wish: PodWish, signal: AbortSignal): Promise<readonly Pod[]> {
    const copy = this.#copyFor(wish);
    await copy.whenSynced(signal);
    const pods = copy.isHeard ? copy.values() : await this.ask(wish, signal);
    return [...pods].filter((pod) => isWished(pod, wish));
  }

  /** The same pod as the copy has it now; `undefined`: it is gone, or nothing is heard. */
  now({ namespace, name, uid }: Pod, wish: PodWish): Pod | undefined {
    const copy = this.#copyFor(wish);
    const pod = copy.isHeard ? copy.get(`${namespace}/${name}`) : undefined;
    return pod?.uid === uid ? pod : undefined;
  }

  states(): readonly ReflectorState[] {
    return stateOfAll(RESOURCE, [...this.#copies.values()]);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#runs);
  }

  #copyFor({ namespace, labels }: PodWish): Reflector<Pod> {
    const isLabelled = WORKSPACE_LABEL in labels;
    const id = `${namespace}/${isLabelled ? WORKSPACE_LABEL : '*'}`;
    const known = this.#copies.get(id);
    if (known !== undefined) return known;
    const { client, logger, metrics, onChange } = this.#options;
    const copy = new Reflector<Pod>({
      resource: RESOURCE,
      collection: {
        path: podsPath(namespace),
        query: isLabelled ? { labelSelector: WORKSPACE_LABEL } : {},
      },
      client,
      transform: podFrom,
      onChange,
      logger: logger.with({ namespace }),
      metrics,
    });
    this.#copies.set(id, copy);
    this.#runs.push(copy.run(this.#closing.signal));
    return copy;
  }

  /** The same of the API server itself. */
  async ask({ namespace, name, labels }: PodWish, signal: AbortSignal): Promise<readonly Pod[]> {
    const query =
      name === undefined
        ? {
            labelSelector: Object.entries(labels)
              .map(([label, value]) => `${label}=${value}`)
              .join(','),
          }
        : { fieldSelector: `metadata.name=${name}` };
    const { items } = await this.#options.client.call<{ readonly items: readonly KubeObject[] }>(
      { method: 'GET', path: podsPath(namespace), query },
      signal,
    );
    return items.map(podFrom);
  }
}

export function podsPath(namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
}
