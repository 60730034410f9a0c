import { isDeepStrictEqual } from 'node:util';

import { isFor, isForAnybody, type Reserved } from '../../domain/access.ts';
import { terminal, waiting } from '../../domain/errors.ts';
import { WORKSPACE_LABEL, type Workspace } from '../../domain/workspace.ts';
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
  readonly prepare?: (workspace: Workspace, signal: AbortSignal) => Promise<void>;
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
    this.#copies = new PodCopies({
      client,
      // What the operator names is all that is read; and whoever names namespaces may have given no right to more.
      isAnywhere: allowed.namespaces === undefined,
      logger,
      metrics,
      onChange: (change) => this.#tell(change),
    });
    if (isForAnybody(allowed)) this.prepare = (workspace, signal) => this.#prepare(workspace, signal);
  }

  /** Also learns from it whom a pod concerns; every pass asks. */
  addresses(workspace: Workspace): readonly string[] {
    const wish = podWish(workspace);
    const address = addressOf(wish);
    if (wish.name === undefined && address !== ownAddress(wish)) this.#selectors.remember(address, wish);
    return [address];
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
    const chosen = chooseContainer(await this.#copies.find(wish, signal), wish);
    return new PodWorkspaceTarget(chosen, {
      client: this.#client,
      addresses: () => this.#addressesOf(chosen.pod),
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

  /** Why this process should be started again: for liveness. */
  problem(): string | undefined {
    return this.#copies.problem();
  }

  /** Ends the watches. */
  async close(): Promise<void> {
    this.#onStir = undefined;
    await this.#copies.close();
  }

  async #prepare(workspace: Workspace, signal: AbortSignal): Promise<void> {
    if (isFor(workspace.key, this.#allowed)) await this.#copies.prepare(podWish(workspace), signal);
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

  /** Of everybody who may mean it. */
  #addressesOf(pod: Pod): readonly string[] {
    const own = ownAddress(pod);
    return [
      nameAddress(pod.namespace, pod.name),
      ...(own === undefined ? [] : [own]),
      ...this.#selectors.addressesOf(pod),
    ];
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
  return labelsAddress(namespace, labels);
}

/** By the label that says whose a pod is, and by no other. */
function ownAddress({ namespace, labels }: Pick<Pod, 'namespace' | 'labels'>): string | undefined {
  const owner = labels[WORKSPACE_LABEL];
  return owner === undefined ? undefined : labelsAddress(namespace, { [WORKSPACE_LABEL]: owner });
}

function labelsAddress(namespace: string, labels: Pod['labels']): string {
  const entries = Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `pod:${namespace}:labels:${JSON.stringify(entries)}`;
}

function nameAddress(namespace: string, name: string): string {
  return `pod:${namespace}:name:${name}`;
}
