import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { Verdict } from '../domain/plan.ts';

/** What the last deep look found, and under which token; valid while the probe does not move. */
export interface LastLook {
  readonly identity: string;
  /** Taken before the look, so that a change between the two shows as a moved probe. */
  readonly token: string;
  /** Digest of declared trees and policy that the verdicts were made for. */
  readonly desiredKey: string;
  readonly observation: Observation;
  readonly verdicts: readonly Verdict[];
  /** Monotonic time after which a pass looks again even if the probe did not move. */
  readonly deepDueAtMs: number;
}

/**
 * What passes remember of a workspace from one to the next, in this process only: never more than a reason to skip
 * a look whose answer the probe shows to be unchanged. Losing it costs one look.
 */
export class Memory {
  readonly #looks = new Map<WorkspaceKey, LastLook>();
  /** Generation whose time from declared to converged was measured. */
  readonly #measured = new Map<WorkspaceKey, number>();

  lastLook(key: WorkspaceKey): LastLook | undefined {
    return this.#looks.get(key);
  }

  rememberLook(key: WorkspaceKey, look: LastLook): void {
    this.#looks.set(key, look);
  }

  /** The next pass looks for itself. */
  dropLook(key: WorkspaceKey): void {
    this.#looks.delete(key);
  }

  /** `true` once for each generation. */
  isFirstConvergence(key: WorkspaceKey, generation: number): boolean {
    if (this.#measured.get(key) === generation) return false;
    this.#measured.set(key, generation);
    return true;
  }

  forget(key: WorkspaceKey): void {
    this.#looks.delete(key);
    this.#measured.delete(key);
  }
}
