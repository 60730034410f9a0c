import type { WorkspaceKey } from '../domain/name.ts';
import { nextRoomMs, RESTARTED_KEY, restartedSchema, type FleetRestartLimits } from '../domain/restart-budget.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { HourlyCounts } from './hourly-counts.ts';

export interface FleetRestartsOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
  readonly limits: FleetRestartLimits;
}

/** The answer to a workspace that is to be restarted. */
export type RestartRoom =
  | { readonly kind: 'taken' }
  /** Not before `atMs`, Unix milliseconds. */
  | { readonly kind: 'later'; readonly atMs: number; readonly isSettling: boolean };

/**
 * The restarts of the whole fleet. What was restarted is written down before it is, so a controller that is restarted has
 * no more room than the one before it. Who has to wait is promised a time, in the order in which they asked: hundreds that
 * wait do not all come for one place.
 */
export class FleetRestarts {
  readonly #options: FleetRestartsOptions;
  readonly #counts: HourlyCounts;
  readonly #promisedMs = new Map<WorkspaceKey, number>();
  readonly #beganMs: number;

  constructor(options: FleetRestartsOptions) {
    this.#options = options;
    this.#counts = new HourlyCounts(options);
    this.#beganMs = options.clock.now();
  }

  /** Takes the room for one restart, or says when there is some. Throws `StoreUnavailable` where nobody can tell. */
  take(workspace: WorkspaceKey, signal: AbortSignal): Promise<RestartRoom> {
    return this.#counts.inTurn(() => this.#take(workspace, signal));
  }

  async #take(workspace: WorkspaceKey, signal: AbortSignal): Promise<RestartRoom> {
    const { clock, limits } = this.#options;
    const nowMs = clock.now();
    const settledMs = this.#beganMs + limits.settleMs;
    // A clock that was put back would have everybody wait for the time that it once told.
    if (nowMs >= this.#beganMs && nowMs < settledMs) return { kind: 'later', atMs: settledMs, isSettling: true };
    let roomMs = nowMs;
    const isTaken = await this.#counts.count(RESTARTED_KEY, restartedSchema, false, signal, (recent) => {
      const madeMs = recent.map(({ atMs }) => Math.min(atMs, nowMs));
      roomMs = nextRoomMs([...madeMs, ...this.#promisedBefore(workspace, nowMs)], limits, nowMs);
      return roomMs > nowMs ? undefined : [...recent, { atMs: nowMs }];
    });
    if (isTaken) {
      this.#promisedMs.delete(workspace);
      return { kind: 'taken' };
    }
    this.#promisedMs.set(workspace, roomMs);
    return { kind: 'later', atMs: roomMs, isSettling: false };
  }

  /** What others were promised who come first. A promise that nobody has come for is forgotten after a while. */
  #promisedBefore(workspace: WorkspaceKey, nowMs: number): readonly number[] {
    const own = this.#promisedMs.get(workspace) ?? Infinity;
    const before: number[] = [];
    for (const [other, atMs] of this.#promisedMs) {
      if (atMs < nowMs - this.#options.limits.windowMs) this.#promisedMs.delete(other);
      else if (other !== workspace && atMs < own) before.push(atMs);
    }
    return before;
  }
}
