import type { Gated } from '../domain/gate.ts';
import { subjectOf } from '../domain/grant.ts';
import type { Observation } from '../domain/observation.ts';
import type { HistoryEntry, WorkspaceStatus } from '../domain/status.ts';
import type { DesiredSet } from './desired.ts';
import type { OpenGrant } from './grants.ts';

/*
 * What people decide past the declaration, each good for one time: that a plan may be carried out, and that a target is
 * taken over from another controller. An approval in an annotation is open until the status has echoed it; a grant of the
 * operator until its document is gone.
 */

/** The part of a pass that decisions are about. */
export interface Decisions {
  /** The status as the store had it. */
  readonly previous: WorkspaceStatus;
  /** Text of an approval in the declaration that counts and was not used yet. */
  readonly approval: string | undefined;
  readonly desired: DesiredSet;
  /** What the operator has granted; read where it could matter, `null`: nothing. */
  grants: { readonly approval?: OpenGrant | null; readonly takeover?: OpenGrant | null };
  /** Grants that were carried out or are void. */
  spent: readonly OpenGrant[];
  /** The approval, once it was carried out or is void. */
  handledApproval: string | undefined;
  /** The takeover, once it was carried out or there was nothing to take over. */
  handledTakeover: string | undefined;
  /** Something is still to be taken away in a former place: an approval may be for that. */
  owesFormer: boolean;
  history: Omit<HistoryEntry, 'firstAt' | 'lastAt' | 'times'> | undefined;
}

/** The text of an annotation that asks for something, unless the status has echoed it. */
export function openRequest(asked: string | undefined, handled: string | undefined): string | undefined {
  return asked === handled ? undefined : asked;
}

/** Ids of the plans that people have agreed to. */
export function approvedPlans({ approval, grants }: Pick<Decisions, 'approval' | 'grants'>): ReadonlySet<string> {
  const texts = [approval, grants.approval?.text].filter((text) => text !== undefined);
  return new Set(texts.map(subjectOf));
}

/** The authority that the operator has decided to take the target over from, where that is whom the target names. */
export function takenFrom({ grants }: Pick<Decisions, 'grants'>, { fence }: Observation): string | undefined {
  const { takeover } = grants;
  return takeover && fence?.authority === subjectOf(takeover.text) ? fence.authority : undefined;
}

/**
 * An approval is good for one plan, until that was carried out: a world that has changed meanwhile voids it. A source that
 * cannot be asked now has not changed, and neither has a target that refused.
 */
export function settleApprovals(pass: Decisions, gated: Gated): void {
  const { approval, grants } = pass;
  if (approval !== undefined && isOver(pass, approval, gated)) pass.handledApproval = approval;
  if (grants.approval && isOver(pass, grants.approval.text, gated)) spend(pass, grants.approval);
}

/** The plan was carried out: so are the approvals of it. */
export function useApprovals(pass: Decisions, planId: string): void {
  const { approval, grants } = pass;
  if (approval !== undefined && subjectOf(approval) === planId) pass.handledApproval = approval;
  if (grants.approval && subjectOf(grants.approval.text) === planId) spend(pass, grants.approval);
}

function isOver(pass: Decisions, text: string, { plan, hold }: Gated): boolean {
  const approved = subjectOf(text);
  if (hold?.reason === 'Paused' || hold?.reason === 'ObserveOnly') return false;
  const isSame = approved === plan.id;
  if (isSame ? plan.entries.length > 0 : pass.desired.plugins.some(({ kind }) => kind === 'unresolved')) return false;
  if (pass.owesFormer && !isSame) return false;
  const [last] = pass.previous.history;
  // A pass that did not learn what came of it has carried it out.
  if (isSame || (last?.planId === approved && last.outcome === 'Unknown')) return true;
  const now = plan.entries.length === 0 ? 'there is nothing to do now' : `the plan is now ${plan.id}`;
  pass.history = { planId: approved, outcome: 'Voided', summary: `approval void, the world has changed: ${now}` };
  return true;
}

/**
 * One that waited for a target to become the other controller's would be carried out when nobody thinks of it any more; and
 * whoever edits a declaration could turn it to a target that the operator did not mean.
 */
export function settleTakeover(pass: Decisions, generation: number, observation: Observation): void {
  const meant = pass.grants.takeover?.generation;
  if (takenFrom(pass, observation) !== undefined && (meant === undefined || meant === generation)) return;
  useTakeover(pass);
  pass.grants = { ...pass.grants, takeover: null };
}

/** The takeover was carried out, or is void. */
export function useTakeover(pass: Decisions): void {
  const { takeover } = pass.grants;
  if (!takeover) return;
  pass.handledTakeover = takeover.text;
  spend(pass, takeover);
}

function spend(pass: Decisions, grant: OpenGrant): void {
  if (!pass.spent.includes(grant)) pass.spent = [...pass.spent, grant];
}
