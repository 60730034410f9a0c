import { transient } from '../domain/errors.ts';
import { describePause, EMPTIED_KEY, emptiedSchema, PAUSE_KEY, type Emptied } from '../domain/fleet.ts';
import type { Guards, RemovalCaps } from '../domain/gate.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState, StateDocument } from '../ports/controller-state.ts';

export interface FleetGuardOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
  readonly guards: Guards;
}

const HOUR_MS = 3_600_000;
/** Passes of this process ask one after the other, so a lost swap is another process that still thinks it leads. */
const ATTEMPTS = 5;

/** What holds for the whole fleet, and outlives this process: a pause, and the hourly cap on emptied workspaces. */
export class FleetGuard {
  readonly #options: FleetGuardOptions;
  #asked: Promise<unknown> = Promise.resolve();

  constructor(options: FleetGuardOptions) {
    this.#options = options;
  }

  get caps(): RemovalCaps {
    return this.#options.guards;
  }

  /** Why nothing may be changed; `undefined` when the fleet is not paused. Throws when that cannot be told. */
  async paused(signal: AbortSignal): Promise<string | undefined> {
    const document = await this.#options.state.get(PAUSE_KEY, signal);
    return document === undefined ? undefined : describePause(document.value);
  }

  /**
   * Takes this workspace into the hour's count, if that has room; asking again for the same one costs nothing. A `dryRun`
   * only says whether there is room.
   */
  mayEmpty(workspace: WorkspaceKey, dryRun: boolean, signal: AbortSignal): Promise<boolean> {
    const answer = this.#asked.then(() => this.#ask(workspace, dryRun, signal));
    this.#asked = answer.catch(() => undefined);
    return answer;
  }

  async #ask(workspace: WorkspaceKey, dryRun: boolean, signal: AbortSignal): Promise<boolean> {
    const { state, clock, guards } = this.#options;
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const document = await state.get(EMPTIED_KEY, signal);
      // On either side: what a clock has written that was years ahead must not hold everything back until then.
      const recent = countedIn(document).filter(({ atMs }) => Math.abs(clock.now() - atMs) < HOUR_MS);
      if (recent.some((one) => one.workspace === workspace)) return true;
      if (recent.length >= guards.emptiedPerHour) return false;
      if (dryRun) return true;
      const next = [...recent, { workspace, atMs: clock.now() }];
      if ((await state.compareAndSwap(EMPTIED_KEY, document?.version, next, signal)) !== undefined) return true;
    }
    throw transient('StoreUnavailable', 'the count of emptied workspaces is written by somebody else all the time');
  }
}

/** Throws where there is a count that cannot be read: it may be a full one. */
function countedIn(document: StateDocument | undefined): Emptied {
  if (document === undefined) return [];
  const { data } = emptiedSchema.safeParse(document.value);
  if (data !== undefined) return data;
  throw transient(
    'StoreUnavailable',
    `the count of emptied workspaces cannot be read; remove the controller state ${EMPTIED_KEY} to count anew`,
  );
}
