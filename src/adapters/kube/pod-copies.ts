import { aborted } from '../../domain/errors.ts';
import { WORKSPACE_LABEL } from '../../domain/workspace.ts';
import type { Logger } from '../../ports/logger.ts';
import type { ReflectorState } from '../../ports/metrics.ts';
import { isWished, type PodWish } from './choose-pod.ts';
import type { KubeClient } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import type { Change } from './object-store.ts';
import { OwnedPods } from './owned-pods.ts';
import { podFrom, type Pod } from './pod.ts';
import { stateOfAll } from './reflector-states.ts';
import { Reflector, type ReflectorOptions } from './reflector.ts';

const RESOURCE = 'pods';
/**
 * What nobody asked for again for so long, nobody needs. The resync wakes every workspace once in each half hour, so that
 * nearly an hour may go by from one time to the next, and its pass may have to wait; and no question takes as long.
 */
export const ASKED_AGAIN_MS = 2 * 3_600_000;
/** Who was refused the pods of the whole cluster asks for them again: the right to them may have been given since. */
export const REFUSED_AGAIN_MS = 10 * 60_000;
/** An API server that was just started may refuse what it allows; so long the copy of before is better than many new ones. */
const REFUSED_FOR_GOOD_MS = 120_000;
/** In place of a namespace. */
const EVERYWHERE = '';

export interface PodCopiesOptions {
  readonly client: KubeClient;
  /** Whether any namespace may be asked for, so that one watch for the whole cluster is better than one for each. */
  readonly isAnywhere: boolean;
  readonly logger: Logger;
  readonly metrics: ReflectorOptions<Pod>['metrics'];
  /** Something of a pod changed that is kept of it. */
  readonly onChange: (change: Change<Pod>) => void;
}

interface Kept {
  readonly copy: Reflector<Pod>;
  /** Of those in the copy. */
  readonly owned: OwnedPods;
  /** Ends it. */
  readonly stop: AbortController;
  askedAtMs: number;
}

/**
 * Copies of pods, from the first question until no more are asked. Of those that are labelled for a workspace there is one
 * for the whole cluster; where nobody may watch that, one for each namespace that is asked for. Pods of other people are kept only of
 * namespaces where somebody names a pod in another way.
 */
export class PodCopies {
  readonly #options: PodCopiesOptions;
  readonly #copies = new Map<string, Kept>();
  /** Also of copies that are being ended. */
  readonly #runs = new Set<Promise<void>>();
  #isClosed = false;
  /** When the pods of the whole cluster were refused, if they were. */
  #refusedAtMs: number | undefined;

  constructor(options: PodCopiesOptions) {
    this.#options = options;
  }

  /** Has what {@link find} needs, so that it waits for nobody. Throws what the list of the pods came to. */
  async prepare(wish: PodWish, signal: AbortSignal): Promise<void> {
    await this.#copyFor(wish, signal);
  }

  /**
   * Pods that a wish names, of the copy; while nothing is heard of the API server it is asked, for then the copy may be of a
   * time that is over. Throws what the list of the pods came to.
   */
  async find(wish: PodWish, signal: AbortSignal): Promise<readonly Pod[]> {
    const kept = await this.#copyFor(wish, signal);
    const pods = kept.copy.isHeard ? candidates(kept, wish) : await this.ask(wish, signal);
    return pods.filter((pod) => isWished(pod, wish));
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
    const copies = scopesOf(wish).flatMap((scope) => this.#copies.get(scope) ?? []);
    const kept = copies.find(({ copy }) => copy.isHeard);
    if (kept === undefined) return undefined;
    kept.askedAtMs = this.#clockMs();
    const pod = kept.copy.get(`${namespace}/${name}`);
    return pod?.uid === uid ? pod : undefined;
  }

  states(): readonly ReflectorState[] {
    const copies = [...this.#copies.values()].map(({ copy }) => copy);
    return stateOfAll(RESOURCE, copies);
  }

  /** Why this process should be started again: for liveness. */
  problem(): string | undefined {
    return [...this.#copies.values()].map(({ copy }) => copy.problem()).find((why) => why !== undefined);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const { stop } of this.#copies.values()) stop.abort();
    await Promise.all(this.#runs);
  }

  /** The one that has those pods, if they are there at all. Throws what its list came to. */
  async #copyFor(wish: PodWish, signal: AbortSignal): Promise<Kept> {
    const isLabelled = isByLabel(wish);
    if (isLabelled && this.#options.isAnywhere && !this.#wasRefused()) {
      const kept = await this.#everywhere(signal);
      if (kept !== undefined) return kept;
    }
    const kept = this.#keep(wish.namespace, isLabelled);
    await kept.copy.whenSynced(signal);
    return kept;
  }

  /** `undefined`: it is not for us to watch. */
  async #everywhere(signal: AbortSignal): Promise<Kept | undefined> {
    const kept = this.#keep(EVERYWHERE, true);
    const { copy } = kept;
    try {
      await copy.whenSynced(signal);
    } catch (error) {
      if (!copy.isRefused) throw error;
    }
    const isRefused = copy.isRefused && (!copy.hasSynced || copy.state().silentSeconds * 1000 > REFUSED_FOR_GOOD_MS);
    if (!isRefused) return kept;
    if (!kept.stop.signal.aborted) this.#refuse(kept);
    return undefined;
  }

  #refuse(kept: Kept): void {
    const isNews = this.#refusedAtMs === undefined;
    const text =
      'plugset may not watch the pods of the whole cluster, so it watches those of each namespace where it needs one';
    this.#options.logger[isNews ? 'info' : 'debug'](text);
    this.#refusedAtMs = this.#clockMs();
    this.#letGo(scopeOf(EVERYWHERE, true), kept);
  }

  #wasRefused(): boolean {
    return this.#refusedAtMs !== undefined && this.#clockMs() - this.#refusedAtMs < REFUSED_AGAIN_MS;
  }

  #keep(namespace: string, isLabelled: boolean): Kept {
    const scope = scopeOf(namespace, isLabelled);
    const known = this.#copies.get(scope);
    if (known !== undefined) {
      known.askedAtMs = this.#clockMs();
      return known;
    }
    if (this.#isClosed) throw aborted('the pods of workspaces are not watched any more');
    const owned = new OwnedPods();
    const copy = this.#copyOf(namespace, isLabelled, owned);
    const kept = { copy, owned, stop: new AbortController(), askedAtMs: this.#clockMs() };
    this.#copies.set(scope, kept);
    const run = this.#run(scope, kept).finally(() => this.#runs.delete(run));
    this.#runs.add(run);
    return kept;
  }

  #copyOf(namespace: string, isLabelled: boolean, owned: OwnedPods): Reflector<Pod> {
    const { client, logger, metrics, onChange } = this.#options;
    return new Reflector<Pod>({
      resource: RESOURCE,
      collection: { path: podsPath(namespace), query: isLabelled ? { labelSelector: WORKSPACE_LABEL } : {} },
      client,
      transform: podFrom,
      onChange: (change) => {
        owned.note(change);
        onChange(change);
      },
      logger: namespace === EVERYWHERE ? logger : logger.with({ namespace }),
      metrics,
      mayBeRefused: namespace === EVERYWHERE,
    });
  }

  /** While it is asked for; whoever asks once it is let go of gets another one. Never rejects. */
  async #run(scope: string, kept: Kept): Promise<void> {
    const { clock } = this.#options.client;
    const { signal } = kept.stop;
    const running = kept.copy.run(signal);
    const leftMs = (): number => kept.askedAtMs + ASKED_AGAIN_MS - clock.monotonic();
    while (!signal.aborted && leftMs() > 0) await clock.sleep(leftMs(), signal).catch(() => undefined);
    this.#letGo(scope, kept);
    await running;
  }

  #letGo(scope: string, kept: Kept): void {
    if (this.#copies.get(scope) === kept) this.#copies.delete(scope);
    kept.stop.abort();
  }

  #clockMs(): number {
    return this.#options.client.clock.monotonic();
  }
}

export function podsPath(namespace: string): string {
  return namespace === EVERYWHERE ? '/api/v1/pods' : `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
}

/** Whether every pod that it may mean is labelled for a workspace. */
function isByLabel({ labels }: PodWish): boolean {
  return WORKSPACE_LABEL in labels;
}

/** Of copies in which its pods may be, the best first. */
function scopesOf(wish: PodWish): readonly string[] {
  const isLabelled = isByLabel(wish);
  const own = scopeOf(wish.namespace, isLabelled);
  return isLabelled ? [scopeOf(EVERYWHERE, true), own] : [own];
}

function scopeOf(namespace: string, isLabelled: boolean): string {
  return `${namespace}/${isLabelled ? WORKSPACE_LABEL : '*'}`;
}

/** All that a wish can mean, and few others. */
function candidates({ copy, owned }: Kept, { namespace, name, labels }: PodWish): readonly Pod[] {
  if (name !== undefined) return [copy.get(`${namespace}/${name}`) ?? []].flat();
  const owner = labels[WORKSPACE_LABEL];
  return owner === undefined ? [...copy.values()] : owned.of(namespace, owner);
}
