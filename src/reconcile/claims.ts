import { parseWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import type { Workspace } from '../domain/workspace.ts';
import type { Logger } from '../ports/logger.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { TargetProvider, WorkspaceTarget } from '../ports/workspace-target.ts';
import { providerOf } from './locate.ts';
import type { TargetIndex } from './target-index.ts';

export interface ClaimsOptions {
  readonly store: WorkspaceStore;
  readonly providers: readonly TargetProvider[];
  readonly index: TargetIndex;
  readonly metrics: Pick<Metrics, 'introduced'>;
  readonly logger: Logger;
  /** Wakes workspaces that waited for this one's claim on a target to go. */
  readonly onReleased: (keys: readonly WorkspaceKey[]) => void;
}

/** Questions to the store at once while the index is filled, and declarations in one answer where it can give several. */
const INTRODUCE_AT_ONCE = 16;
const INTRODUCE_PAGE = 500;

/** Keeps the index of who has which target true, and wakes whoever waited for another's claim. */
export class Claims {
  readonly #options: ClaimsOptions;

  constructor(options: ClaimsOptions) {
    this.#options = options;
  }

  /** Learns where a workspace points before any pass acts, so that two claims on one target are seen in time. */
  async introduce(key: WorkspaceKey, signal: AbortSignal): Promise<void> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'absent') this.#note(key, loaded.kind === 'found' ? loaded.workspace : undefined);
  }

  /** The same for many at once. */
  async introduceAll(keys: readonly WorkspaceKey[], signal: AbortSignal): Promise<void> {
    const { store } = this.#options;
    if (store.declarations === undefined) {
      await mapAtOnce(INTRODUCE_AT_ONCE, keys, (key) => this.introduce(key, signal));
      return;
    }
    for (let from = 0; from < keys.length; from += INTRODUCE_PAGE) {
      const page = await store.declarations(keys.slice(from, from + INTRODUCE_PAGE), signal);
      for (const [key, workspace] of page) this.#note(key, workspace);
    }
  }

  /** A malformed one is counted, and points nowhere. */
  #note(key: WorkspaceKey, workspace: Workspace | undefined): void {
    this.#options.metrics.introduced(key);
    if (workspace !== undefined) this.declare(workspace);
  }

  /** Notes where a declaration points. */
  declare(workspace: Workspace): void {
    const { index, providers } = this.#options;
    const provider = providerOf(workspace, providers);
    if (provider === undefined) return;
    const addresses = provider.addresses(workspace);
    const usual = provider.lane(workspace);
    const lanes = { usual, slow: provider.slowLane ?? `${usual}:slow` };
    this.#releasing(workspace.key, () => index.declare(workspace.key, addresses, lanes));
  }

  /** Notes what is behind a workspace's address; whoever is no rival of it any more may go on. */
  identify(key: WorkspaceKey, { identity, addresses }: Pick<WorkspaceTarget, 'identity' | 'addresses'>): void {
    this.#releasing(key, () => this.#options.index.identify(key, identity, addresses));
  }

  forget(key: WorkspaceKey): void {
    this.#releasing(key, () => this.#options.index.forget(key));
  }

  /** Who else has this very target. Those that no pass has located yet are located now, or two would start at once. */
  async rivalsOf(key: WorkspaceKey, signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    const { index } = this.#options;
    await this.#locateAll(index.neighboursOf(key), signal);
    return index.rivalsOf(key);
  }

  /**
   * Of the workspaces that receipts on a target name, those that nobody declares there any more: a workspace was renamed.
   * One whose declaration cannot be read may still mean this target.
   */
  async formerOwners(key: WorkspaceKey, named: ReadonlySet<string>, signal: AbortSignal): Promise<ReadonlySet<string>> {
    const gone: string[] = [];
    for (const name of named) {
      const owner = parseWorkspaceKey(name);
      const loaded = owner === undefined ? undefined : await this.#options.store.get(owner, signal);
      if (loaded?.kind === 'found') this.declare(loaded.workspace);
      if (loaded?.kind !== 'malformed') gone.push(name);
    }
    const contenders = new Set<string>(this.#options.index.contendersOf(key));
    return new Set(gone.filter((name) => name !== key && !contenders.has(name)));
  }

  /** Which other workspaces have the target of this identity, where `workspace` points or pointed. */
  async claimantsOf(workspace: Workspace, identity: string, signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    const { index, providers } = this.#options;
    const addresses = providerOf(workspace, providers)?.addresses(workspace) ?? [];
    await this.#locateAll(index.unlocatedAt(addresses, workspace.key), signal);
    return index.keysOf(identity).filter((other) => other !== workspace.key);
  }

  async #locateAll(keys: readonly WorkspaceKey[], signal: AbortSignal): Promise<void> {
    const { logger, providers, store } = this.#options;
    for (const neighbour of keys) {
      const loaded = await store.get(neighbour, signal);
      if (loaded.kind !== 'found') continue;
      try {
        const target = await providerOf(loaded.workspace, providers)?.locate(loaded.workspace, signal);
        if (target !== undefined) this.identify(neighbour, target);
      } catch (error) {
        signal.throwIfAborted();
        logger.debug('a workspace that shares an address has no target now', { workspace: neighbour, error });
      }
    }
  }

  #releasing(key: WorkspaceKey, change: () => void): void {
    const { index, onReleased } = this.#options;
    const before = index.rivalsOf(key);
    change();
    if (before.length === 0) return;
    const after = new Set(index.rivalsOf(key));
    const released = before.filter((rival) => !after.has(rival));
    if (released.length > 0) onReleased(released);
  }
}
