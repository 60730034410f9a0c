import { aborted, waiting } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import {
  DEFAULT_POLICY,
  type FleetPolicy,
  type Requests,
  type Workspace,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import { onAbort } from '../../ports/abort.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, ReflectorState } from '../../ports/metrics.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { FenceFloor } from './fence-floor.ts';
import { Finalizer, isBeingDeleted } from './finalizer.ts';
import type { KubeClient } from './kube-client.ts';
import { ManifestWriter } from './manifest-writer.ts';
import { expectNewestTurn } from './newest-turn.ts';
import { StatusWriter } from './status-writer.ts';
import { WorkspaceApi } from './workspace-api.ts';
import { WorkspaceCopy } from './workspace-copy.ts';
import { isGone, loadedFrom, type KeptWorkspace } from './workspace-object.ts';

export interface KubeWorkspaceStoreOptions {
  /** Shared; whoever opened it closes it, after the store. */
  readonly client: KubeClient;
  /** Those whose workspaces are read; left out: all of the cluster. */
  readonly namespaces?: readonly string[] | undefined;
  /** Where it is known which turn is the newest. */
  readonly state: ControllerState;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'kubeListed' | 'kubeWatchOpened' | 'kubeWatchEnded' | 'kubeMissed'>;
  /** What applies where a workspace's own policy says nothing; asked each time, for it can be configured anew. */
  readonly defaultPolicy?: () => FleetPolicy;
}

/** A list of it is tried more often. */
const REFUSED_AGAIN_MS = 60_000;

type OnKey = (key: WorkspaceKey, cause: WatchCause) => void;

/**
 * Workspaces as custom resources. Reads are answered from a copy which a watch keeps, from the first one on until the store is
 * closed; writes go to the API server, and end when the copy has heard of them.
 */
export class KubeWorkspaceStore implements WorkspaceStore {
  readonly #defaultPolicy: () => FleetPolicy;
  readonly #copy: WorkspaceCopy;
  readonly #floor: FenceFloor;
  readonly #statuses: StatusWriter;
  readonly #finalizer: Finalizer;
  readonly #manifests: ManifestWriter;
  readonly #watchers = new Set<OnKey>();
  readonly #closing = new AbortController();
  /** The object that the last `get` handed out: what is concluded from it is not written to another one of its name. */
  readonly #seen = new Map<WorkspaceKey, string>();

  constructor({ client, namespaces, state, logger, metrics, defaultPolicy }: KubeWorkspaceStoreOptions) {
    const api = new WorkspaceApi(client);
    this.#defaultPolicy = defaultPolicy ?? (() => DEFAULT_POLICY);
    this.#copy = new WorkspaceCopy({
      client,
      namespaces,
      logger,
      metrics,
      onEdit: (key, cause) => {
        for (const onKey of this.#watchers) onKey(key, cause);
      },
    });
    this.#floor = new FenceFloor(state);
    this.#statuses = new StatusWriter(api, this.#floor);
    this.#finalizer = new Finalizer(api);
    this.#manifests = new ManifestWriter(api);
  }

  /** Throws where there plainly can be no copy. Begins with none: one that is made once this process leads is fresh. */
  async probe(signal: AbortSignal): Promise<void> {
    await this.#copy.probe(signal);
  }

  /** Resolves when there is a copy; every read waits for that. Throws as soon as it is known that there is none yet. */
  async sync(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#closing.signal.aborted) throw aborted('the store was closed');
    await this.#copy.sync(signal);
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    await this.sync(signal);
    return [...this.#copy.values()].filter((kept) => !isGone(kept)).map(({ key }) => key);
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    await this.sync(signal);
    const refusal = this.#copy.refusals().get(splitWorkspaceKey(key).namespace);
    if (refusal !== undefined) throw waiting('AccessDenied', `${key} cannot be read: ${refusal}`, REFUSED_AGAIN_MS);
    const kept = this.#copy.get(key);
    if (kept === undefined || isGone(kept)) {
      this.#seen.delete(key);
      return { kind: 'absent' };
    }
    this.#seen.set(key, kept.uid);
    return loadedFrom(kept, this.#defaultPolicy());
  }

  async declarations(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
  ): Promise<ReadonlyMap<WorkspaceKey, Workspace | undefined>> {
    await this.sync(signal);
    const found = new Map<WorkspaceKey, Workspace | undefined>();
    for (const key of keys) {
      const kept = this.#copy.get(key);
      const loaded = kept && loadedFrom(kept, this.#defaultPolicy());
      if (loaded === undefined || loaded.kind === 'absent') continue;
      found.set(key, loaded.kind === 'found' ? loaded.workspace : undefined);
    }
    return found;
  }

  async watch(onKey: OnKey, signal: AbortSignal): Promise<void> {
    const wasBegun = this.#copy.isBegun;
    await this.sync(signal);
    // One of its own, for whoever gives the same one twice.
    const watcher: OnKey = (key, cause) => onKey(key, cause);
    this.#watchers.add(watcher);
    onAbort(signal, () => this.#watchers.delete(watcher));
    try {
      // What is known so far may be from before whoever led last has ended.
      if (wasBegun) await this.#copy.refresh(signal);
    } catch (error) {
      this.#watchers.delete(watcher);
      throw error;
    }
  }

  async writeStatus(write: StatusWrite, signal: AbortSignal): Promise<void> {
    await this.sync(signal);
    const kept = this.#living(write.key);
    if (kept === undefined) return;
    await this.#copy.until(kept.key, await this.#statuses.write(write, kept, signal), signal);
  }

  async claim(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    await this.sync(signal);
    const kept = this.#living(key);
    if (kept === undefined || kept.deletedAtMs !== undefined) throw isBeingDeleted(key);
    if (kept.isClaimed) return;
    await expectNewestTurn(this.#floor, fence, `the claim of ${key}`, signal);
    await this.#copy.until(key, await this.#finalizer.add(key, signal), signal);
  }

  async finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    await this.sync(signal);
    const kept = this.#living(key);
    if (kept?.deletedAtMs === undefined) return;
    await expectNewestTurn(this.#floor, fence, `the end of the deletion of ${key}`, signal);
    await this.#finalizer.remove(key, kept.uid, signal);
    await this.#copy.untilGone(kept, signal);
  }

  async apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<'created' | 'configured' | 'unchanged'> {
    const { key, version, outcome } = await this.#manifests.apply(manifest, signal);
    await this.#copy.until(key, version, signal);
    return outcome;
  }

  async delete(key: WorkspaceKey, signal: AbortSignal): Promise<boolean> {
    const deleted = await this.#manifests.delete(key, signal);
    if (deleted === undefined) return false;
    await this.#copy.untilDeleted(key, deleted, signal);
    return true;
  }

  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    const version = await this.#manifests.annotate(key, requests, signal);
    await this.#copy.until(key, version, signal);
    return version !== undefined;
  }

  unread(): ReadonlyMap<string, string> {
    return this.#copy.refusals();
  }

  unreadable(): number {
    return this.unread().size;
  }

  get outdated(): string | undefined {
    return this.#copy.outdated();
  }

  /** Why this process should be started again: for liveness. */
  problem(): string | undefined {
    return this.#copy.problem();
  }

  /** Of the object that passes see, or saw last, under this name. */
  uidOf(key: WorkspaceKey): string | undefined {
    return this.#seen.get(key) ?? this.#copy.get(key)?.uid;
  }

  states(): readonly ReflectorState[] {
    return this.#copy.states();
  }

  async close(): Promise<void> {
    this.#closing.abort(aborted('the store was closed'));
    this.#watchers.clear();
    await this.#copy.close();
  }

  /** As the copy has it, if it is still the one that was looked at. */
  #living(key: WorkspaceKey): KeptWorkspace | undefined {
    const kept = this.#copy.get(key);
    const seen = this.#seen.get(key) ?? kept?.uid;
    return kept === undefined || isGone(kept) || kept.uid !== seen ? undefined : kept;
  }
}
