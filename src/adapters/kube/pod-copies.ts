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
/**
 * What nobody asked for again for so long, nobody needs. The resync wakes every workspace once in each half hour, so that
 * nearly an hour may go by from one time to the next, and its pass may have to wait; and no question takes as long.
 */
export const ASKED_AGAIN_MS = 2 * 3_600_000;

export interface PodCopiesOptions {
  readonly client: KubeClient;
  readonly logger: Logger;
  readonly metrics: ReflectorOptions<Pod>['metrics'];
  /** Something of a pod changed that is kept of it. */
  readonly onChange: (change: Change<Pod>) => void;
}

interface Kept {
  readonly copy: Reflector<Pod>;
  askedAtMs: number;
}

/**
 * Copies of the pods of those namespaces where a workspace means one, from the first question until no more are asked: of
 * those that are labelled for a workspace, and of all only where somebody names one in another way.
 */
export class PodCopies {
  readonly #options: PodCopiesOptions;
  readonly #copies = new Map<string, Kept>();
  /** Also of copies that are being ended. */
  readonly #runs = new Set<Promise<void>>();
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

  /** What {@link find} answers, of the API server itself. */
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

  /** The same pod as the copy has it now; `undefined`: it is gone, or nothing is heard. */
  now({ namespace, name, uid }: Pod, wish: PodWish): Pod | undefined {
    const copy = this.#copyFor(wish);
    const pod = copy.isHeard ? copy.get(`${namespace}/${name}`) : undefined;
    return pod?.uid === uid ? pod : undefined;
  }

  states(): readonly ReflectorState[] {
    const copies = [...this.#copies.values()].map(({ copy }) => copy);
    return stateOfAll(RESOURCE, copies);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#runs);
  }

  #copyFor({ namespace, labels }: PodWish): Reflector<Pod> {
    const isLabelled = WORKSPACE_LABEL in labels;
    const id = `${namespace}/${isLabelled ? WORKSPACE_LABEL : '*'}`;
    const askedAtMs = this.#options.client.clock.monotonic();
    const known = this.#copies.get(id);
    if (known !== undefined) {
      known.askedAtMs = askedAtMs;
      return known.copy;
    }
    const kept = { copy: this.#copyOf(namespace, isLabelled), askedAtMs };
    this.#copies.set(id, kept);
    const run = this.#keep(id, kept).finally(() => this.#runs.delete(run));
    this.#runs.add(run);
    return kept.copy;
  }

  #copyOf(namespace: string, isLabelled: boolean): Reflector<Pod> {
    const { client, logger, metrics, onChange } = this.#options;
    return new Reflector<Pod>({
      resource: RESOURCE,
      collection: { path: podsPath(namespace), query: isLabelled ? { labelSelector: WORKSPACE_LABEL } : {} },
      client,
      transform: podFrom,
      onChange,
      logger: logger.with({ namespace }),
      metrics,
    });
  }

  /** While it is asked for; whoever asks once it is let go of gets another one. Never rejects. */
  async #keep(id: string, kept: Kept): Promise<void> {
    const { clock } = this.#options.client;
    const stop = new AbortController();
    const closing = this.#closing.signal;
    const running = kept.copy.run(stop.signal);
    const leftMs = (): number => kept.askedAtMs + ASKED_AGAIN_MS - clock.monotonic();
    while (!closing.aborted && leftMs() > 0) await clock.sleep(leftMs(), closing).catch(() => undefined);
    this.#copies.delete(id);
    stop.abort(closing.reason);
    await running;
  }
}

export function podsPath(namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
}
