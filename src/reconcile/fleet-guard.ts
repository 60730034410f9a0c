import {
  describePause,
  EMPTIED_KEY,
  emptiedKey,
  emptiedSchema,
  PAUSE_KEY,
  REMOVED_KEY,
  removalsSchema,
  removedSchema,
  type Removals,
} from '../domain/fleet.ts';
import type { Guards, RemovalCaps } from '../domain/gate.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import { stateKey } from '../domain/state-key.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import { HourlyCounts } from './hourly-counts.ts';
import { writeDocument } from './state-documents.ts';

export interface FleetGuardOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
  readonly guards: Guards;
}

/** What is about to be taken away from a workspace. */
export interface Removal {
  readonly workspace: WorkspaceKey;
  readonly plugins: readonly string[];
  /** Those of them that nobody has seen declared. */
  readonly strangers: ReadonlySet<string>;
  /** Nothing of ours is left there afterwards. */
  readonly isEmptying: boolean;
}

/** What was removed from a workspace within the hour, as it is remembered. */
export interface RemovedLately {
  readonly removals: Readonly<Removals>;
  readonly version: string | undefined;
}

const MINUTE_MS = 60_000;
/** As many as a workspace can have: those before them have long been held back. */
const MOST_REMEMBERED = 1000;

/** What holds for the whole fleet, and outlives this process: a pause, and the caps on what goes within an hour. */
export class FleetGuard {
  readonly #options: FleetGuardOptions;
  readonly #counts: HourlyCounts;

  constructor(options: FleetGuardOptions) {
    this.#options = options;
    this.#counts = new HourlyCounts(options);
  }

  get caps(): RemovalCaps {
    return this.#options.guards;
  }

  /** Why nothing may be changed; `undefined` when the fleet is not paused. Throws when that cannot be told. */
  async paused(signal: AbortSignal): Promise<string | undefined> {
    const document = await this.#options.state.get(PAUSE_KEY, signal);
    return document === undefined ? undefined : describePause(document.value);
  }

  async removedLately(workspace: WorkspaceKey, signal: AbortSignal): Promise<RemovedLately> {
    const { data: removals = [], version } = await this.#counts.recent(
      stateKey('removals', workspace),
      removalsSchema,
      signal,
    );
    return { removals, version };
  }

  /**
   * Takes a removal into the counts of the hour, if those of the fleet have room; else answers why not. What was counted
   * already, because a pass before did not get through with it, costs the fleet nothing; its hour begins again, for it may
   * have been back meanwhile. A `dryRun` only says whether there is room.
   */
  async admit(
    removal: Removal,
    lately: RemovedLately,
    dryRun: boolean,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { state, clock } = this.#options;
    const counted = new Set(lately.removals.map(({ plugin }) => plugin));
    const fresh = removal.plugins.filter((plugin) => !counted.has(plugin));
    const refusal = await this.#counts.inTurn(async () => {
      if (removal.isEmptying && !(await this.#mayEmpty(removal.workspace, dryRun, signal)))
        return 'more workspaces of its namespace, or some of more namespaces, would be emptied within an hour than the guard allows (guards.emptiedPerHour)';
      if (fresh.length > 0 && !(await this.#mayRemove(fresh.length, dryRun, signal)))
        return 'more plugins would be removed within an hour than the guard of the fleet allows (guards.removedPerHour)';
      return undefined;
    });
    if (refusal !== undefined || dryRun) return refusal;
    const nowMs = clock.now();
    const going = new Set(removal.plugins);
    const isJustCounted = ({ plugin, atMs }: Removals[number]): boolean =>
      going.has(plugin) && Math.abs(nowMs - atMs) < MINUTE_MS;
    if (lately.removals.filter(isJustCounted).length === going.size) return undefined;
    const markOf = (plugin: string): Pick<Removals[number], 'stranger'> =>
      removal.strangers.has(plugin) ? { stranger: true } : {};
    const others = lately.removals.filter(({ plugin }) => !going.has(plugin));
    const removals = [...others, ...removal.plugins.map((plugin) => ({ plugin, atMs: nowMs, ...markOf(plugin) }))];
    const key = stateKey('removals', removal.workspace);
    await writeDocument(state, key, lately.version, removals.slice(-MOST_REMEMBERED), signal);
    return undefined;
  }

  /** Somebody has agreed to what goes now, and has seen what went before. */
  async forgive(workspace: WorkspaceKey, { removals, version }: RemovedLately, signal: AbortSignal): Promise<void> {
    if (version !== undefined && removals.length > 0)
      await this.#options.state.remove(stateKey('removals', workspace), version, signal);
  }

  /** The fleet counts namespaces, and each of them its own workspaces: one tenant uses up no room of another. */
  async #mayEmpty(workspace: WorkspaceKey, dryRun: boolean, signal: AbortSignal): Promise<boolean> {
    const { clock, guards } = this.#options;
    const { namespace } = splitWorkspaceKey(workspace);
    const hasRoom = await this.#counts.count(EMPTIED_KEY, emptiedSchema, dryRun, signal, (recent) => {
      const namespaces = new Set(recent.map((one) => splitWorkspaceKey(one.workspace as WorkspaceKey).namespace));
      if (namespaces.has(namespace)) return recent;
      return namespaces.size >= guards.emptiedPerHour ? undefined : [...recent, { workspace, atMs: clock.now() }];
    });
    if (!hasRoom) return false;
    return this.#counts.count(emptiedKey(namespace), emptiedSchema, dryRun, signal, (recent) => {
      if (recent.some((one) => one.workspace === workspace)) return recent;
      return recent.length >= guards.emptiedPerHour ? undefined : [...recent, { workspace, atMs: clock.now() }];
    });
  }

  #mayRemove(plugins: number, dryRun: boolean, signal: AbortSignal): Promise<boolean> {
    const { clock, guards } = this.#options;
    return this.#counts.count(REMOVED_KEY, removedSchema, dryRun, signal, (recent) => {
      if (recent.reduce((sum, one) => sum + one.plugins, plugins) > guards.removedPerHour) return undefined;
      const last = recent.at(-1);
      const isSameMinute = last !== undefined && Math.abs(clock.now() - last.atMs) < MINUTE_MS;
      return isSameMinute
        ? [...recent.slice(0, -1), { plugins: last.plugins + plugins, atMs: last.atMs }]
        : [...recent, { plugins, atMs: clock.now() }];
    });
  }
}
