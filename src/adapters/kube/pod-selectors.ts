import type { Clock } from '../../ports/clock.ts';
import { hasLabels, type PodWish } from './choose-pod.ts';
import { ASKED_AGAIN_MS } from './pod-copies.ts';
import type { Pod } from './pod.ts';

interface Selector {
  readonly labels: PodWish['labels'];
  readonly askedAtMs: number;
}

/** Which labels workspaces declared lately, each with the address that stands for them. */
export class PodSelectors {
  readonly #clock: Clock;
  /** By namespace and address. In both maps what was asked for longest ago is the first. */
  readonly #byNamespace = new Map<string, Map<string, Selector>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Somebody means those. Forgets what nobody has meant for long. */
  remember(address: string, { namespace, labels }: Pick<PodWish, 'namespace' | 'labels'>): void {
    const selectors = this.#byNamespace.get(namespace) ?? new Map<string, Selector>();
    putLast(selectors, address, { labels, askedAtMs: this.#clock.monotonic() });
    putLast(this.#byNamespace, namespace, selectors);
    this.#forgetOld(selectors);
    for (const [other, itsSelectors] of this.#byNamespace) {
      this.#forgetOld(itsSelectors);
      if (itsSelectors.size > 0) break;
      this.#byNamespace.delete(other);
    }
  }

  /** Of those that this pod has the labels for. */
  addressesOf(pod: Pick<Pod, 'namespace' | 'labels'>): readonly string[] {
    const selectors = [...(this.#byNamespace.get(pod.namespace) ?? [])];
    return selectors.filter(([, { labels }]) => hasLabels(pod, labels)).map(([address]) => address);
  }

  #forgetOld(selectors: Map<string, Selector>): void {
    const oldestMs = this.#clock.monotonic() - ASKED_AGAIN_MS;
    for (const [address, { askedAtMs }] of selectors) {
      if (askedAtMs > oldestMs) break;
      selectors.delete(address);
    }
  }
}

function putLast<V>(map: Map<string, V>, key: string, value: V): void {
  map.delete(key);
  map.set(key, value);
}
