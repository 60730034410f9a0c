import { keyOf, type KubeObject } from './kube-object.ts';
import { isLater } from './resource-version.ts';

/** What became of one object. `T` is what is kept of it. */
export type Change<T> =
  | { readonly kind: 'added'; readonly key: string; readonly object: T }
  | { readonly kind: 'changed'; readonly key: string; readonly object: T; readonly before: T }
  /** `isTombstone`: nobody saw it go, and `before` is what was last heard of it. */
  | { readonly kind: 'gone'; readonly key: string; readonly before: T; readonly isTombstone: boolean };

interface Kept<T> {
  readonly uid: string;
  readonly version: string;
  readonly generation: number;
  readonly object: T;
}

/** How many deletions are remembered, against news of the dead: what comes late comes soon. */
const REMEMBERED_DELETIONS = 1_024;

export interface ObjectStoreOptions<T> {
  /** What is kept of an object. */
  readonly transform: (object: KubeObject) => T;
  /** It threw, which is a fault of ours: what was known of that one object, if anything, stays. */
  readonly onFault: (key: string, error: unknown) => void;
}

/**
 * The objects of one kind as last heard, and what changes when more is heard. Whoever brings the news may bring it twice, or
 * in the wrong order: neither version nor generation of an object ever falls. Who is gone may come back as the same one,
 * where only some are asked for: it had lost its label, and has it again.
 */
export class ObjectStore<T> {
  readonly #kept = new Map<string, Kept<T>>();
  /** Uids of the last ones that went, and at which version. */
  readonly #gone = new Map<string, string>();
  readonly #options: ObjectStoreOptions<T>;

  constructor(options: ObjectStoreOptions<T>) {
    this.#options = options;
  }

  get size(): number {
    return this.#kept.size;
  }

  get(key: string): T | undefined {
    return this.#kept.get(key)?.object;
  }

  *values(): Iterable<T> {
    for (const { object } of this.#kept.values()) yield object;
  }

  /** Of each uid. */
  versions(): ReadonlyMap<string, string> {
    return new Map([...this.#kept.values()].map(({ uid, version }) => [uid, version]));
  }

  /** It is there, like this. No change, when that was known, or is older than what is known. */
  put(raw: KubeObject): readonly Change<T>[] {
    const key = keyOf(raw);
    const before = this.#kept.get(key);
    if (this.#wentAfter(raw) || (before !== undefined && isOld(raw, before))) return [];
    const kept = this.#keptOf(raw, before);
    return kept === undefined || kept === before ? [] : this.#keep(key, before, kept);
  }

  /** It is gone. No change, when that was known, or another one has its name by now. */
  remove(raw: KubeObject): readonly Change<T>[] {
    const key = keyOf(raw);
    const before = this.#kept.get(key);
    if (before !== undefined && isLater(before.version, raw.metadata.resourceVersion)) return [];
    this.#remember(raw);
    if (before?.uid !== raw.metadata.uid) return [];
    this.#kept.delete(key);
    const { object } = this.#keptOf(raw, before) ?? before;
    return [{ kind: 'gone', key, before: object, isTombstone: false }];
  }

  /** Begins a list; the store stays as it is until that is complete. */
  replace(): Replacement<T> {
    const listed = new Map<string, Kept<T>>();
    return {
      add: (raw) => {
        const key = keyOf(raw);
        const before = this.#kept.get(key);
        // What is the same is not held twice, were it only for a moment.
        const kept = before !== undefined && isSame(raw, before) ? before : this.#keptOf(raw, before);
        if (kept !== undefined) listed.set(key, kept);
      },
      commit: () => this.#become(listed),
    };
  }

  #become(listed: ReadonlyMap<string, Kept<T>>): readonly Change<T>[] {
    const changes: Change<T>[] = [];
    for (const [key, { object }] of this.#kept) {
      if (listed.has(key)) continue;
      this.#kept.delete(key);
      changes.push({ kind: 'gone', key, before: object, isTombstone: true });
    }
    for (const [key, kept] of listed) {
      const before = this.#kept.get(key);
      if (before !== kept) changes.push(...this.#keep(key, before, kept));
    }
    // A list is the whole truth, be it that of a database that was restored.
    this.#gone.clear();
    return changes;
  }

  #keep(key: string, before: Kept<T> | undefined, now: Kept<T>): readonly Change<T>[] {
    this.#kept.set(key, now);
    const { object } = now;
    if (before === undefined) return [{ kind: 'added', key, object }];
    if (before.uid === now.uid) return [{ kind: 'changed', key, object, before: before.object }];
    return [
      { kind: 'gone', key, before: before.object, isTombstone: true },
      { kind: 'added', key, object },
    ];
  }

  #keptOf(raw: KubeObject, before: Kept<T> | undefined): Kept<T> | undefined {
    const { uid, resourceVersion: version, generation = 0 } = raw.metadata;
    try {
      return { uid, version, generation, object: this.#options.transform(raw) };
    } catch (error) {
      this.#options.onFault(keyOf(raw), error);
      return before;
    }
  }

  #wentAfter({ metadata }: KubeObject): boolean {
    const wentAt = this.#gone.get(metadata.uid);
    return wentAt !== undefined && !isLater(metadata.resourceVersion, wentAt);
  }

  #remember({ metadata }: KubeObject): void {
    this.#gone.set(metadata.uid, metadata.resourceVersion);
    if (this.#gone.size <= REMEMBERED_DELETIONS) return;
    const [oldest] = this.#gone.keys();
    if (oldest !== undefined) this.#gone.delete(oldest);
  }
}

export interface Replacement<T> {
  readonly add: (raw: KubeObject) => void;
  /** The list is complete: what is not on it is gone. */
  readonly commit: () => readonly Change<T>[];
}

function isSame({ metadata }: KubeObject, kept: Kept<unknown>): boolean {
  return metadata.uid === kept.uid && metadata.resourceVersion === kept.version;
}

function isOld(raw: KubeObject, kept: Kept<unknown>): boolean {
  const { uid, resourceVersion, generation = 0 } = raw.metadata;
  if (isSame(raw, kept) || isLater(kept.version, resourceVersion)) return true;
  return uid === kept.uid && generation < kept.generation;
}
