import { describeChange } from './change-words.ts';
import type { Removals } from './fleet.ts';
import type { PluginName } from './name.ts';
import type { Observation } from './observation.ts';
import { isManaged, type Plan, type PlanEntry, type Planned, type Verdict } from './plan.ts';
import type { Hold, HoldReason } from './status.ts';
import type { Policy } from './workspace.ts';

/** How many managed plugins one workspace may lose within an hour: so many, or so large a part of its set. */
export interface RemovalCaps {
  readonly plugins: number;
  /** 0 to 1. */
  readonly share: number;
}

export interface Guards extends RemovalCaps {
  /** How many workspaces of one namespace may lose all their plugins within an hour, and in how many namespaces some may. */
  readonly emptiedPerHour: number;
  /** How many plugins all workspaces together may lose within an hour. */
  readonly removedPerHour: number;
}

export const DEFAULT_GUARDS: Guards = { plugins: 3, share: 0.5, emptiedPerHour: 3, removedPerHour: 1000 };

/** What holds for the whole fleet, and what is remembered of this workspace, at the time of a pass. */
export interface FleetSay {
  /** Why nothing is changed anywhere; `undefined`: nobody has paused the fleet. */
  readonly paused: string | undefined;
  readonly caps: RemovalCaps;
  /** What was removed from the workspace within the hour; only asked where something is to be removed. */
  readonly removedLately: Readonly<Removals>;
  /** Why the fleet has no room for these removals; `undefined`: it has, or was not asked. */
  readonly refusal: string | undefined;
}

export interface GateInput extends FleetSay {
  readonly planned: Planned;
  readonly observation: Observation;
  readonly policy: Policy;
  /** That all of it goes is what was asked for: the workspace was deleted, or stands somewhere else. */
  readonly wholesale: boolean;
  /**
   * Plugins that are declared, or were seen as declared before. Of any other the target alone says that it is plugset's, and
   * whoever can write there could plant so many that nothing would ever be removed: they do not hold the known ones back.
   */
  readonly known: ReadonlySet<string>;
  /** Name as a command line takes it. */
  readonly workspace: string;
  /** Ids of plans that people agreed to and that were not used yet. */
  readonly approved: ReadonlySet<string>;
  /** Why a guard held removals back before, where nobody has agreed to them or undone them since. */
  readonly wasHeld: string | undefined;
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
  if (approved.has(plan.id)) return { ...planned, allowed: plan, hold: undefined };
  if (policy.mode === 'Plan') {
    return holdBack(planned, plan.entries, 'AwaitingApproval', `plan ${plan.id} waits for ${approval(input)}`);
  }
  const removals = plan.entries.filter((entry) => entry.action === 'remove');
  const why = whyHeld(input, removals);
  if (why === undefined) return { ...planned, allowed: plan, hold: undefined };
  const strangers = strangersAlone(input, removals);
  if (strangers?.length === 0) return { ...planned, allowed: plan, hold: undefined };
  if (strangers !== undefined) {
    const message = `${why}; ${strangers.length} of these were never seen declared, and they alone wait: agree to it with ${approval(input)}`;
    return holdBack(planned, strangers, 'PruneHeld', message);
  }
  const way = `undo the edit that asks for it, or agree to it with ${approval(input)}`;
  return holdBack(planned, removals, 'PruneHeld', `${why}; ${way}`, why);
}

/** Everything else was carried out. Of this no guard keeps anything in mind: it must not hold back what is known. */
export function holdsStrangersAlone({ hold, allowed }: Gated): boolean {
  return hold?.reason === 'PruneHeld' && hold.why === undefined && allowed.entries.length === 0;
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

/** Those that nobody has seen declared, where the caps of the workspace would let the others go; else `undefined`. */
function strangersAlone(input: GateInput, removals: readonly PlanEntry[]): readonly PlanEntry[] | undefined {
  const { known, wholesale } = input;
  if (wholesale || beyondCaps(input, removals.length) === undefined) return undefined;
  const others = removals.filter(({ plugin }) => known.has(plugin));
  if (whyHeld(input, others, known) !== undefined) return undefined;
  return removals.filter(({ plugin }) => !known.has(plugin));
}

/** Held once, removals stay held until somebody has looked: caps by the hour alone would let a mistake drip through. */
function whyHeld(input: GateInput, removals: readonly PlanEntry[], known?: ReadonlySet<string>): string | undefined {
  const { wholesale, policy, refusal, wasHeld } = input;
  if (policy.allowEmpty || removals.length === 0) return undefined;
  const beyond = wholesale ? undefined : beyondCaps(input, removals.length, known);
  return beyond ?? refusal ?? wasHeld;
}

/** The set is what there was when the hour began, or plugins could be taken away a few at a time. `known`: only they count. */
function beyondCaps(
  { caps, observation, removedLately }: GateInput,
  removals: number,
  known?: ReadonlySet<string>,
): string | undefined {
  const managed = new Set<string>(
    observation.plugins.filter((one) => one.present && isManaged(one)).map((one) => one.name),
  );
  const counted = [...managed].filter((name) => known?.has(name) !== false);
  const isLost = ({ plugin, stranger }: Removals[number]): boolean =>
    !managed.has(plugin) && !(known !== undefined && stranger === true);
  const lost = removedLately.filter(isLost).length;
  const [gone, all] = [removals + lost, counted.length + lost];
  if (gone <= caps.plugins || gone <= caps.share * all) return undefined;
  return `${gone} of ${all} plugins would be removed ${lost === 0 ? 'at once' : 'within an hour'}`;
}

function holdBack(
  planned: Planned,
  entries: readonly PlanEntry[],
  reason: HoldReason,
  message: string,
  why?: string,
): Gated {
  const held = new Map(entries.map((entry) => [entry.plugin, entry]));
  const { plan } = planned;
  return {
    plan,
    verdicts: planned.verdicts.map((verdict) => heldVerdict(verdict, held, reason)),
    allowed: { ...plan, entries: plan.entries.filter((entry) => !held.has(entry.plugin)) },
    hold: {
      reason,
      message,
      ...(why === undefined ? {} : { why }),
      changes: entries.map((entry) => describeChange(entry, 'planned')),
    },
  };
}

function heldVerdict(verdict: Verdict, held: ReadonlyMap<PluginName, PlanEntry>, reason: HoldReason): Verdict {
  const entry = held.get(verdict.name);
  if (entry === undefined) return verdict;
  switch (entry.action) {
    case 'configure':
      return entry.cause === 'corrective'
        ? verdict
        : { ...verdict, reason, message: `${describeChange(entry, 'planned')} waits` };
    case 'restore':
      // That it differs is what matters; why it is left so stands in the conditions.
      return verdict;
    case 'remove':
      return { ...verdict, state: 'Held', reason, message: 'not declared, and kept for now' };
    case 'adopt':
      return verdict.managed
        ? verdict
        : { ...verdict, reason, message: 'an equal directory is there, and is not adopted for now' };
    case 'install':
    case 'replace':
      return { ...verdict, reason, message: `${describeChange(entry, 'planned')} waits` };
  }
}
