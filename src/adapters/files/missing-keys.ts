import type { WorkspaceKey } from '../../domain/name.ts';
import type { Snapshot } from './read-snapshot.ts';

export interface MissingKeysOptions {
  readonly graceMs: number;
  /** A directory without any declaration counts even where there were several. */
  readonly allowEmpty: boolean;
}

/**
 * Decides when a document that is gone counts as deleted. Not while any text in the directory cannot be read: it may be
 * declared there. Not before it has been missing for the grace time: `git checkout` removes a file and writes it again. And
 * not when several went at once and none is left, unless that is allowed: an unmounted volume and a `git clean` look like
 * that. The last one alone is an ordinary deletion: somebody removes one after the other, or never had more.
 */
export class MissingKeys {
  readonly #options: MissingKeysOptions;
  /** Monotonic time since when each has been missing. */
  readonly #since = new Map<WorkspaceKey, number>();
  /** Several went at once and none has come back since, also when all of them but one have been deleted by name. */
  #isHolding = false;

  constructor(options: MissingKeysOptions) {
    this.#options = options;
  }

  /** Keys that were missing at the last look and did not count as deleted. */
  get undecided(): readonly WorkspaceKey[] {
    return [...this.#since.keys()];
  }

  /** Whether time alone will decide about some of them. */
  get isPending(): boolean {
    return this.#since.size > 0 && !this.#isHolding;
  }

  /**
   * Of the keys that are `missing` from the snapshot and not known as deleted, those that count as deleted now, or why
   * none of them does.
   */
  look(snapshot: Snapshot, missing: readonly WorkspaceKey[], nowMs: number): Verdict {
    const wasHolding = this.#isHolding;
    this.#isHolding &&= missing.length > 0 && snapshot.declared.size === 0;
    // A checkout that comes back after all writes one file after the other: the grace time begins with the first.
    if (!snapshot.isWhole || (wasHolding && !this.#isHolding)) this.#since.clear();
    for (const key of this.#since.keys()) if (!missing.includes(key)) this.#since.delete(key);
    if (missing.length === 0) return { kind: 'deleted', keys: [] };
    if (!snapshot.isWhole) return { kind: 'unreadable' };

    for (const key of missing) if (!this.#since.has(key)) this.#since.set(key, nowMs);
    const keys = missing.filter((key) => nowMs - (this.#since.get(key) ?? nowMs) >= this.#options.graceMs);
    if (keys.length > 0 && !this.#options.allowEmpty && isEmptied(snapshot, missing)) this.#isHolding = true;
    if (this.#isHolding) return { kind: 'emptied' };
    for (const key of keys) this.#since.delete(key);
    return { kind: 'deleted', keys };
  }
}

export type Verdict =
  | { readonly kind: 'deleted'; readonly keys: readonly WorkspaceKey[] }
  /** Some of the text cannot be read. */
  | { readonly kind: 'unreadable' }
  /** Several are gone at once, and none is left. */
  | { readonly kind: 'emptied' };

/** Whether nothing is declared where several were, which is taken for a mistake. */
export function isEmptied({ declared, isWhole }: Snapshot, missing: readonly WorkspaceKey[]): boolean {
  return isWhole && declared.size === 0 && missing.length > 1;
}
