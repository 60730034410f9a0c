import type { WorkspaceKey } from '../../domain/name.ts';
import type { Snapshot } from './read-snapshot.ts';

/**
 * Decides when a document that is gone counts as deleted. Not while any text in the directory cannot be read: it may be
 * declared there. Not when the whole directory is empty, unless it is the very one that held declarations before: an
 * unmounted volume and a checkout that is being made anew look like that. And not before it has been missing for the
 * grace time: `git checkout` removes a file and writes it again.
 */
export class MissingKeys {
  readonly #graceMs: number;
  /** Monotonic time since when each has been missing. */
  readonly #since = new Map<WorkspaceKey, number>();
  /** The last root that held a declaration. */
  #inhabited: string | undefined;

  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  /** Keys that will count as deleted when enough time has passed. */
  get pending(): readonly WorkspaceKey[] {
    return [...this.#since.keys()];
  }

  /**
   * Of the keys that are `missing` from the snapshot and not known as deleted, those that count as deleted now, or why
   * none of them does.
   */
  look(snapshot: Snapshot, missing: readonly WorkspaceKey[], nowMs: number): Verdict {
    const doubt = this.#doubt(snapshot);
    for (const key of this.#since.keys()) if (doubt !== undefined || !missing.includes(key)) this.#since.delete(key);
    if (missing.length === 0) return { deleted: [] };
    if (doubt !== undefined)
      return { deleted: [], heldBack: `${missing.join(', ')}: not found, and not taken for deleted, because ${doubt}` };

    for (const key of missing) if (!this.#since.has(key)) this.#since.set(key, nowMs);
    const deleted = missing.filter((key) => nowMs - (this.#since.get(key) ?? nowMs) >= this.#graceMs);
    for (const key of deleted) this.#since.delete(key);
    return { deleted };
  }

  #doubt(snapshot: Snapshot): string | undefined {
    if (!snapshot.isWhole) return 'some of the files cannot be read';
    if (snapshot.declared.size > 0) this.#inhabited = snapshot.scan.identity;
    if (this.#inhabited === snapshot.scan.identity) return undefined;
    return 'the directory is empty and not known to have held them';
  }
}

export interface Verdict {
  readonly deleted: readonly WorkspaceKey[];
  readonly heldBack?: string;
}
