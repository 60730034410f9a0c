import type { WorkspaceKey } from '../../domain/name.ts';
import type { Snapshot } from './read-snapshot.ts';

export interface MissingKeysOptions {
  readonly graceMs: number;
  /** A directory without any declaration counts even where there were some. */
  readonly allowEmpty: boolean;
}

/**
 * Decides when a document that is gone counts as deleted. Not while any text in the directory cannot be read: it may be
 * declared there. Not before it has been missing for the grace time: `git checkout` removes a file and writes it again. And
 * not when none is left at all, unless that is allowed: an unmounted volume and a `git clean` look like that.
 */
export class MissingKeys {
  readonly #options: MissingKeysOptions;
  /** Monotonic time since when each has been missing. */
  readonly #since = new Map<WorkspaceKey, number>();
  /** Those of them that went with all others, and are believed in. */
  #held: ReadonlySet<WorkspaceKey> = new Set();

  constructor(options: MissingKeysOptions) {
    this.#options = options;
  }

  /** Keys that were missing at the last look and did not count as deleted. */
  get undecided(): readonly WorkspaceKey[] {
    return [...this.#since.keys()];
  }

  /** Whether time alone will decide about some of them. */
  get isPending(): boolean {
    return this.#since.size > this.#held.size;
  }

  /**
   * Of the keys that are `missing` from the snapshot and not known as deleted, those that count as deleted now, or why
   * none of them does.
   */
  look(snapshot: Snapshot, missing: readonly WorkspaceKey[], nowMs: number): Verdict {
    const wasHeld = this.#held.size > 0;
    this.#held = new Set();
    const isHeld = isEmptied(snapshot, missing, this.#options.allowEmpty);
    // A checkout that comes back after all writes one file after the other: the grace time begins with the first.
    if (!snapshot.isWhole || (wasHeld && !isHeld)) this.#since.clear();
    for (const key of this.#since.keys()) if (!missing.includes(key)) this.#since.delete(key);
    if (missing.length === 0) return { kind: 'deleted', keys: [] };
    if (!snapshot.isWhole) return { kind: 'unreadable' };

    for (const key of missing) if (!this.#since.has(key)) this.#since.set(key, nowMs);
    const keys = missing.filter((key) => nowMs - (this.#since.get(key) ?? nowMs) >= this.#options.graceMs);
    if (keys.length > 0 && isHeld) {
      this.#held = new Set(keys);
      return { kind: 'emptied' };
    }
    for (const key of keys) this.#since.delete(key);
    return { kind: 'deleted', keys };
  }
}

export type Verdict =
  | { readonly kind: 'deleted'; readonly keys: readonly WorkspaceKey[] }
  /** Some of the text cannot be read. */
  | { readonly kind: 'unreadable' }
  /** All are gone at once. */
  | { readonly kind: 'emptied' };

/** Whether nothing is declared where something was, which is taken for a mistake. */
export function isEmptied(
  { declared, isWhole }: Snapshot,
  missing: readonly WorkspaceKey[],
  allowEmpty: boolean,
): boolean {
  return !allowEmpty && isWhole && declared.size === 0 && missing.length > 0;
}
