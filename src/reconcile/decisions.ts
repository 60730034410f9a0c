import type { Gated } from '../domain/gate.ts';
import type { Observation } from '../domain/observation.ts';
import type { HistoryEntry, WorkspaceStatus } from '../domain/status.ts';
import type { DesiredSet } from './desired.ts';

/*
 * What people decide past the declaration, each good for one time: that a plan may be carried out, and that a target is
 * taken over from another controller. A decision is open until the status has echoed it.
 */

/** The part of a pass that decisions are about. */
export interface Decisions {
  /** The status as the store had it. */
  readonly previous: WorkspaceStatus;
  /** Text of an approval that was not used yet. */
  readonly approval: string | undefined;
  /** Text of a takeover that was not carried out yet. */
  readonly takeover: string | undefined;
  readonly desired: DesiredSet;
  /** The approval, once it was carried out or is void. */
  handledApproval: string | undefined;
  /** The takeover, once it was carried out or there was nothing to take over. */
  handledTakeover: string | undefined;
  history: Omit<HistoryEntry, 'firstAt' | 'lastAt' | 'times'> | undefined;
}

/** The text of an annotation that asks for something, unless the status has echoed it. */
export function openRequest(asked: string | undefined, handled: string | undefined): string | undefined {
  return asked === handled ? undefined : asked;
}

/** What stands before the `@`, which tells two equal wishes apart. */
function subjectOf(request: string | undefined): string | undefined {
  return request?.split('@', 1)[0];
}

export function approvedPlan({ approval }: Pick<Decisions, 'approval'>): string | undefined {
  return subjectOf(approval);
}

/** The authority that a person has decided to take the target over from, where that is whom the target names. */
export function takenFrom({ takeover }: Pick<Decisions, 'takeover'>, { fence }: Observation): string | undefined {
  return takeover !== undefined && fence?.authority === subjectOf(takeover) ? fence?.authority : undefined;
}

/**
 * An approval is good for one plan, until that was carried out: a world that has changed meanwhile voids it. A source that
 * cannot be asked now has not changed, and neither has a target that refused.
 */
export function settleApproval(pass: Decisions, { plan, hold }: Gated): void {
  const approved = approvedPlan(pass);
  if (approved === undefined || hold?.reason === 'Paused' || hold?.reason === 'ObserveOnly') return;
  const isSame = approved === plan.id;
  if (isSame ? plan.entries.length > 0 : pass.desired.plugins.some(({ kind }) => kind === 'unresolved')) return;
  pass.handledApproval = pass.approval;
  const [last] = pass.previous.history;
  // A pass that did not learn what came of it has carried it out.
  if (isSame || (last?.planId === approved && last.outcome === 'Unknown')) return;
  const now = plan.entries.length === 0 ? 'there is nothing to do now' : `the plan is now ${plan.id}`;
  pass.history = { planId: approved, outcome: 'Voided', summary: `approval void, the world has changed: ${now}` };
}

/** One that waited for a target to become the other controller's would be carried out when nobody thinks of it any more. */
export function settleTakeover(pass: Decisions, observation: Observation): void {
  if (takenFrom(pass, observation) === undefined) pass.handledTakeover = pass.takeover;
}
