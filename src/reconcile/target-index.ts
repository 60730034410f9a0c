import type { WorkspaceKey } from '../domain/name.ts';

/** Where work on a workspace queues. */
export interface Lanes {
  readonly usual: string;
  /** While its target keeps passes waiting. */
  readonly slow: string;
}

interface Entry {
  readonly addresses: ReadonlySet<string>;
  readonly lanes: Lanes;
  /** What a pass found behind the addresses; unknown before the first. */
  identity: string | undefined;
  /** All by which that may be declared, where it can tell. */
  names: () => readonly string[];
}

const NONE = (): readonly string[] => [];

/**
 * Which workspace has which target, by declared address and by the identity that a pass found. Answers two questions:
 * whom an event of an engine concerns, and who else claims a target.
 */
export class TargetIndex {
  readonly #entries = new Map<WorkspaceKey, Entry>();
  readonly #keys = new Map<string, Set<WorkspaceKey>>();

  /** Notes where a workspace points; called in every pass, before anything is done there. */
  declare(key: WorkspaceKey, addresses: readonly string[], lanes: Lanes): void {
    const old = this.#entries.get(key);
    const same =
      old !== undefined && old.addresses.size === addresses.length && addresses.every((one) => old.addresses.has(one));
    if (same) return;
    this.forget(key);
    this.#entries.set(key, { addresses: new Set(addresses), lanes, identity: undefined, names: NONE });
    for (const address of addresses) this.#link(address, key);
  }

  /** Notes what a pass found behind the addresses of a declared workspace, and by which addresses it may be declared. */
  identify(key: WorkspaceKey, identity: string, names: Entry['names'] = NONE): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    entry.names = names;
    if (entry.identity === identity) return;
    if (entry.identity !== undefined) this.#unlink(entry.identity, key);
    entry.identity = identity;
    this.#link(identity, key);
  }

  forget(key: WorkspaceKey): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    for (const address of entry.addresses) this.#unlink(address, key);
    if (entry.identity !== undefined) this.#unlink(entry.identity, key);
    this.#entries.delete(key);
  }

  /** Everybody who listens to an address. */
  keysOf(address: string): readonly WorkspaceKey[] {
    return [...(this.#keys.get(address) ?? [])];
  }

  /** Other workspaces behind whose addresses the very same target was found. */
  rivalsOf(key: WorkspaceKey): readonly WorkspaceKey[] {
    const identity = this.#entries.get(key)?.identity;
    return identity === undefined
      ? []
      : this.keysOf(identity)
          .filter((other) => other !== key)
          .toSorted();
  }

  /** Rivals, and others that have an address of this one: they may turn out to be rivals. */
  contendersOf(key: WorkspaceKey): readonly WorkspaceKey[] {
    const entry = this.#entries.get(key);
    const others = new Set([...(entry?.addresses ?? [])].flatMap((address) => this.keysOf(address)));
    return [...others, ...this.rivalsOf(key)].filter((other) => other !== key);
  }

  /**
   * Workspaces that share an address with this one and have not been located yet. Sharing an address is no claim by
   * itself: two namespaces may each have an alice, with a container of her own each. Beside them those that have an address by
   * which its target may be declared, and meant another target when they were located: it may be this one by now.
   */
  neighboursOf(key: WorkspaceKey): readonly WorkspaceKey[] {
    const { addresses = [], names = NONE, identity } = this.#entries.get(key) ?? {};
    const named = names().flatMap((name) => this.keysOf(name));
    const meant = named.filter((other) => other !== key && this.#entries.get(other)?.identity !== identity);
    return [...new Set([...this.unlocatedAt([...addresses], key), ...meant])].toSorted();
  }

  /** Workspaces but `key` that have one of these addresses and have not been located yet. */
  unlocatedAt(addresses: readonly string[], key: WorkspaceKey): readonly WorkspaceKey[] {
    const neighbours = new Set(addresses.flatMap((address) => this.keysOf(address)));
    return [...neighbours]
      .filter((other) => other !== key && this.#entries.get(other)?.identity === undefined)
      .toSorted();
  }

  has(key: WorkspaceKey): boolean {
    return this.#entries.has(key);
  }

  /** What work on a workspace keeps busy; `undefined` where nothing has been declared yet. */
  lanesOf(key: WorkspaceKey): Lanes | undefined {
    return this.#entries.get(key)?.lanes;
  }

  get size(): number {
    return this.#entries.size;
  }

  keys(): readonly WorkspaceKey[] {
    return [...this.#entries.keys()];
  }

  #link(place: string, key: WorkspaceKey): void {
    const keys = this.#keys.get(place);
    if (keys === undefined) this.#keys.set(place, new Set([key]));
    else keys.add(key);
  }

  #unlink(place: string, key: WorkspaceKey): void {
    const keys = this.#keys.get(place);
    keys?.delete(key);
    if (keys?.size === 0) this.#keys.delete(place);
  }
}
