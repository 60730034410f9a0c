import { describeChange } from './change-words.ts';
import type { PluginName } from './name.ts';
import type { Observation } from './observation.ts';
import { isManaged, type Plan, type PlanEntry, type Planned, type Verdict } from './plan.ts';
import type { Hold, HoldReason } from './status.ts';
import type { Policy } from './workspace.ts';

/** How many managed plugins one pass may take away from one workspace: so many, or so large a part of them. */
export interface RemovalCaps {
  readonly plugins: number;
  /** 0 to 1. */
  readonly share: number;
}

export interface Guards extends RemovalCaps {
  /** How many workspaces of the fleet may lose all their plugins within an hour. */
  readonly emptiedPerHour: number;
}

export const DEFAULT_GUARDS: Guards = { plugins: 3, share: 0.5, emptiedPerHour: 3 };

export interface GateInput {
  readonly planned: Planned;
  readonly observation: Observation;
  readonly policy: Policy;
  /** The workspace was deleted: that all of it goes is what was asked for. */
  readonly deleting: boolean;
  /** Name as a command line takes it. */
  readonly workspace: string;
  /** Plan id that a person agreed to and that was not used yet. */
  readonly approved: string | undefined;
  /** Why nothing is changed anywhere; `undefined`: nobody has paused the fleet. */
  readonly paused: string | undefined;
  readonly caps: RemovalCaps;
  /** Whether the fleet's hourly cap lets this workspace be emptied; only read where {@link isEmptying}. */
  readonly mayBeEmptied: boolean;
}

export interface Gated extends Planned {
  /** The part of the plan that may be carried out now. */
  readonly allowed: Plan;
  readonly hold: Hold | undefined;
}

/**
 * What of a plan may be carried out now: mode, approval, pause, caps on removing (design section 3, step 5). The plan
 * itself stays as it is, so that its id can be shown and approved. Pure.
 */
export function gatePlan(input: GateInput): Gated {
  const { planned, approved, paused, policy } = input;
  const { plan } = planned;
  if (plan.entries.length === 0) return { ...planned, allowed: plan, hold: undefined };
  if (paused !== undefined) return holdBack(planned, plan.entries, 'Paused', paused);
  if (policy.mode === 'Observe') return holdBack(planned, plan.entries, 'ObserveOnly', 'policy.mode is Observe');
  if (approved === plan.id) return { ...planned, allowed: plan, hold: undefined };
  if (policy.mode === 'Plan') {
    return holdBack(planned, plan.entries, 'AwaitingApproval', `plan ${plan.id} waits for ${approval(input)}`);
  }
  const removals = plan.entries.filter((entry) => entry.action === 'remove');
  const why = whyHeld(input, removals);
  if (why === undefined) return { ...planned, allowed: plan, hold: undefined };
  const way = `undo what took the declarations away, or agree to it with ${approval(input)}`;
  return holdBack(planned, removals, 'PruneHeld', `${why}; ${way}`);
}

/** Whether a plan only takes away, and leaves nothing of ours on a target that had something. */
export function isEmptying({ plan, verdicts }: Planned): boolean {
  const isGoing = ({ state, managed }: Verdict): boolean => state === 'Removing' || !managed;
  const { entries } = plan;
  return entries.length > 0 && entries.every(({ action }) => action === 'remove') && verdicts.every(isGoing);
}

function approval({ workspace, planned }: GateInput): string {
  return `plugset approve ${workspace} ${planned.plan.id}`;
}

function whyHeld(input: GateInput, removals: readonly PlanEntry[]): string | undefined {
  const { caps, deleting, mayBeEmptied, observation, planned, policy } = input;
  if (policy.allowEmpty || removals.length === 0) return undefined;
  if (isEmptying(planned) && !mayBeEmptied)
    return 'more workspaces would be emptied within an hour than the guard of the fleet allows';
  const managed = observation.plugins.filter((plugin) => plugin.present && isManaged(plugin)).length;
  if (deleting || removals.length <= caps.plugins || removals.length <= caps.share * managed) return undefined;
  return `${removals.length} of ${managed} plugins would be removed at once`;
}

function holdBack(planned: Planned, entries: readonly PlanEntry[], reason: HoldReason, message: string): Gated {
  const held = new Map(entries.map((entry) => [entry.plugin, entry]));
  const { plan } = planned;
  return {
    plan,
    verdicts: planned.verdicts.map((verdict) => heldVerdict(verdict, held, reason)),
    allowed: { ...plan, entries: plan.entries.filter((entry) => !held.has(entry.plugin)) },
    hold: { reason, message, changes: entries.map((entry) => describeChange(entry, 'planned')) },
  };
}

function heldVerdict(verdict: Verdict, held: ReadonlyMap<PluginName, PlanEntry>, reason: HoldReason): Verdict {
  const entry = held.get(verdict.name);
  if (entry === undefined) return verdict;
  switch (entry.action) {
    case 'restore':
      // That it differs is what matters; why it is left so stands in the conditions.
      return verdict;
    case 'remove':
      return { ...verdict, state: 'Held', reason, message: 'not declared; is kept for now' };
    case 'adopt':
      return { ...verdict, reason, message: 'an equal directory is there; is not adopted for now' };
    case 'install':
    case 'replace':
      return { ...verdict, reason, message: `${describeChange(entry, 'planned')} waits` };
  }
}
