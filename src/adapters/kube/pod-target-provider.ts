import { isDeepStrictEqual } from 'node:util';

import { isFor, type Reserved } from '../../domain/access.ts';
import { terminal, waiting } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Logger } from '../../ports/logger.ts';
import type { ReflectorState } from '../../ports/metrics.ts';
import type { TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { chooseContainer, podWish, requirePossible, type ChosenContainer, type PodWish } from './choose-pod.ts';
import type { KubeClient } from './kube-client.ts';
import type { Change } from './object-store.ts';
import { PodCopies, type PodCopiesOptions } from './pod-copies.ts';
import { PodSelectors } from './pod-selectors.ts';
import type { Pod } from './pod.ts';
import { PodWorkspaceTarget } from './pod-workspace-target.ts';

export interface PodTargetOptions {
  /** Whose workspaces may be pods. */
  readonly allowed: Reserved;
  readonly client: KubeClient;
  readonly logger: Logger;
  readonly metrics: PodCopiesOptions['metrics'];
}

/** News of it wakes the workspace before. */
const SOON_MS = 5_000;

/** Workspaces that are pods, each of its own namespace. */
export class PodTargetProvider implements TargetProvider {
  readonly kind = 'pod';
  /** Of all namespaces: with one of its own, each could take more workers with pods that hang. */
  readonly slowLane = 'pod:slow';
  readonly #allowed: Reserved;
  readonly #client: KubeClient;
  readonly #copies: PodCopies;
  readonly #selectors: PodSelectors;
  #onStir: ((address: string) => void) | undefined;

  /** Asks nobody anything. */
  constructor({ allowed, client, logger, metrics }: PodTargetOptions) {
    this.#allowed = allowed;
    this.#client = client;
    this.#selectors = new PodSelectors(client.clock);
    this.#copies = new PodCopies({ client, logger, metrics, onChange: (change) => this.#tell(change) });
  }

  addresses(workspace: Workspace): readonly string[] {
    return [addressOf(podWish(workspace))];
  }

  lane(workspace: Workspace): string {
    return `pod:${podWish(workspace).namespace}`;
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const wish = podWish(workspace);
    requirePossible(wish);
    if (!isFor(workspace.key, this.#allowed)) {
      const text = `workspaces of namespace ${wish.namespace}, such as ${workspace.key}, may be no pods; the operator can allow it (targets.pod.namespaces)`;
      throw terminal('TargetNotAllowed', text);
    }
    if (wish.name === undefined) this.#selectors.remember(addressOf(wish), wish);
    const chosen = chooseContainer(await this.#copies.find(wish, signal), wish);
    return new PodWorkspaceTarget(chosen, {
      client: this.#client,
      isSame: () => isSame(chosen, this.#copies.now(chosen.pod, wish)),
      requireSame: async (until) => requireSame(chosen, chooseContainer(await this.#copies.ask(wish, until), wish)),
    });
  }

  watch(onStir: (address: string) => void, _onGap: () => void, signal: AbortSignal): void {
    this.#onStir = onStir;
    onAbort(signal, () => this.#forget(onStir));
  }

  /** Of the pods that are known, for metrics. */
  states(): readonly ReflectorState[] {
    return this.#copies.states();
  }

  /** Ends the watches. */
  async close(): Promise<void> {
    this.#onStir = undefined;
    await this.#copies.close();
  }

  #forget(onStir: (address: string) => void): void {
    if (this.#onStir === onStir) this.#onStir = undefined;
  }

  /** A copy misses nothing for good, so there is no gap to tell of: what it finds late, it tells late. */
  #tell(change: Change<Pod>): void {
    if (change.kind === 'changed' && isDeepStrictEqual(change.object, change.before)) return;
    const states = [
      change.kind === 'gone' ? undefined : change.object,
      change.kind === 'added' ? undefined : change.before,
    ];
    const stirred = new Set(states.flatMap((pod) => (pod === undefined ? [] : this.#addressesOf(pod))));
    for (const address of stirred) this.#onStir?.(address);
  }

  #addressesOf(pod: Pod): readonly string[] {
    return [nameAddress(pod.namespace, pod.name), ...this.#selectors.addressesOf(pod)];
  }
}

function isSame({ container }: ChosenContainer, pod: Pod | undefined): boolean {
  if (pod === undefined || pod.isTerminating) return false;
  return pod.containers.some(({ name, id }) => name === container.name && id === container.id);
}

function requireSame({ pod, container }: ChosenContainer, now: ChosenContainer): void {
  if (now.pod.uid === pod.uid && now.container.id === container.id) return;
  const text = `container ${container.name} of pod ${pod.namespace}/${pod.name} is another one by now`;
  throw waiting('ContainerRestarting', text, SOON_MS);
}

/** By name, or by labels: two workspaces may have one and mean different containers of it. */
function addressOf({ namespace, name, labels }: PodWish): string {
  if (name !== undefined) return nameAddress(namespace, name);
  const entries = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `pod:${namespace}:labels:${JSON.stringify(entries)}`;
}

function nameAddress(namespace: string, name: string): string {
  return `pod:${namespace}:name:${name}`;
}
