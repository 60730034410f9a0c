import { keyOf, type KubeObject } from './kube-object.ts';

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

/**
 * The objects of one kind as last heard, and what changes when more is heard. Whoever brings the news may bring it twice, or
 * in the wrong order: versions cannot be compared, but a generation never falls, and who is dead stays dead.
 */
export class ObjectStore<T> {
  readonly #kept = new Map<string, Kept<T>>();
  readonly #dead = new Set<string>();
  readonly #transform: (object: KubeObject) => T;

  /** `transform`: what is kept of an object. Must not throw. */
  constructor(transform: (object: KubeObject) => T) {
    this.#transform = transform;
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

  /** It is there, like this. No change, when that was known, or is older than what is known. */
  put(raw: KubeObject): readonly Change<T>[] {
    const key = keyOf(raw);
    const before = this.#kept.get(key);
    if (this.#dead.has(raw.metadata.uid) || (before !== undefined && isOld(raw, before))) return [];
    return this.#keep(key, before, this.#keptOf(raw));
  }

  /** It is gone. No change, when that was known, or another one has its name by now. */
  remove(raw: KubeObject): readonly Change<T>[] {
    const { uid } = raw.metadata;
    this.#remember(uid);
    const key = keyOf(raw);
    if (this.#kept.get(key)?.uid !== uid) return [];
    this.#kept.delete(key);
    return [{ kind: 'gone', key, before: this.#transform(raw), isTombstone: false }];
  }

  /** Begins a list; the store stays as it is until that is complete. */
  replace(): Replacement<T> {
    const listed = new Map<string, Kept<T>>();
    return {
      add: (raw) => {
        const key = keyOf(raw);
        const before = this.#kept.get(key);
        // What is the same is not held twice, were it only for a moment.
        listed.set(key, before !== undefined && isSame(raw, before) ? before : this.#keptOf(raw));
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
    this.#dead.clear();
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

  #keptOf(raw: KubeObject): Kept<T> {
    const { uid, resourceVersion: version, generation = 0 } = raw.metadata;
    return { uid, version, generation, object: this.#transform(raw) };
  }

  #remember(uid: string): void {
    this.#dead.add(uid);
    if (this.#dead.size <= REMEMBERED_DELETIONS) return;
    const [oldest] = this.#dead;
    if (oldest !== undefined) this.#dead.delete(oldest);
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
  if (isSame(raw, kept)) return true;
  return raw.metadata.uid === kept.uid && (raw.metadata.generation ?? 0) < kept.generation;
}
