import { describeChange, inTense, type ChangeOutcome } from '../domain/change-words.ts';
import { transient, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import { subjectOf } from '../domain/grant.ts';
import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { Gated } from '../domain/gate.ts';
import type { Plan, Verdict } from '../domain/plan.ts';
import { compileTransaction } from '../domain/transaction.ts';
import type { Residue } from '../domain/residue.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { ConvergeResult, HostPlace, PluginHost } from '../ports/plugin-host.ts';
import type { SecretResolver } from '../ports/secret-resolver.ts';
import { useApprovals, useTakeover } from './decisions.ts';
import type { Looks } from './looks.ts';
import { passError, planPass, type Pass } from './pass.ts';
import { planSettings } from './plugin-settings.ts';
import { planResidue } from './residue.ts';

export interface ApplyPorts {
  readonly host: PluginHost;
  readonly metrics: Metrics;
  readonly secrets: SecretResolver;
}

interface ApplyOptions extends ApplyPorts {
  readonly looks: Looks;
  readonly expectsBlank?: boolean | undefined;
  readonly takenFrom?: string | undefined;
}

type Failed = ConvergeResult['failed'];

const TAKE_OVER = { plain: 'take the target over', past: 'took the target over' };
const FINISH = { plain: 'finish', past: 'finished' };

/**
 * Carries a plan out in one transaction. What the same run finds afterwards is planned again and has to ask for nothing.
 * Throws what `PluginHost.converge` throws; what failed for single plugins is in `pass.planned` instead.
 */
export async function applyPlan(
  pass: Pass,
  place: HostPlace,
  plan: Plan,
  before: Observation,
  fence: Fence,
  { host, metrics, looks, secrets, expectsBlank = false, takenFrom }: ApplyOptions,
): Promise<void> {
  const changes = plan.entries.map((entry) => `${entry.action} ${entry.plugin}`);
  pass.logger.info('converging', { plan: plan.id, target: pass.target, changes });
  pass.history = { planId: plan.id, outcome: 'Unknown', summary: inWords(plan, takenFrom, 'unknown') };
  const owner = place.profile.owner === 'configDir' ? before.owner : place.profile.owner;
  try {
    const residue = await planResidue(pass, place, plan, before, looks);
    const context = { workspace: pass.key, authority: fence.authority };
    const trees = compileTransaction(plan, pass.desired.plugins, before, context);
    const settings = await planSettings(pass, place, plan, before, looks, secrets);
    const operations = [...trees.operations, ...(residue?.operations ?? []), ...settings.operations];
    const transaction = { ...trees, operations };
    const { artifacts } = pass.desired;
    const request = { transaction, fence, owner, expectsBlank, takenFrom, artifacts };
    const done = await host.converge(place, request, pass.signal);
    const result = { ...done, failed: withSettings(plan, done.failed, settings.failed) };
    const after = planPass(pass, result.observation);
    pass.planned = { ...after, verdicts: withFailures(plan, after, new Map([...settings.failed, ...done.failed])) };
    if (takenFrom !== undefined) useTakeover(pass);
    useApprovals(pass, plan.id);
    count(pass, plan, result, metrics, takenFrom);
    if (residue !== undefined) tellResidue(pass, residue);
  } catch (thrown) {
    const error = passError(pass, thrown);
    // A pass that was ended in the middle knows as little of what came of it as one whose connection broke.
    const isUnknown = error.class === 'unknown' || pass.signal.aborted;
    if (pass.planned !== undefined) {
      pass.planned = { ...pass.planned, verdicts: withOneFailure(plan, pass.planned.verdicts, error, isUnknown) };
    }
    if (!isUnknown) pass.history = { planId: plan.id, outcome: 'Failed', summary: inWords(plan, takenFrom, 'failed') };
    throw error;
  }
}

/**
 * What the history says became of a plan as a whole, and of entries of it that failed alone. One without entries is
 * carried out to take the target over, or to finish what was interrupted.
 */
export function inWords(plan: Plan, takenFrom: string | undefined, whole: ChangeOutcome, failed?: Failed): string {
  const words = plan.entries.map((entry) => describeChange(entry, failed?.has(entry.plugin) ? 'failed' : whole));
  if (takenFrom !== undefined) words.unshift(`${inTense(TAKE_OVER, whole)} from ${takenFrom}`);
  return words.length === 0 ? `${inTense(FINISH, whole)} an interrupted change` : words.join(', ');
}

function count(pass: Pass, plan: Plan, result: ConvergeResult, metrics: Metrics, takenFrom: string | undefined): void {
  const done = plan.entries.filter((entry) => !result.failed.has(entry.plugin));
  for (const entry of done) metrics.changed(entry.action, entry.cause, 1);
  pass.corrective += done.filter((entry) => entry.cause === 'corrective').length;
  pass.intentional += done.filter((entry) => entry.cause === 'intentional').length;
  const outcome = result.failed.size === 0 ? 'Succeeded' : done.length > 0 ? 'Partial' : 'Failed';
  const moved = result.kept.length === 0 ? '' : `; moved files that are on no list to .plugset/kept/`;
  const summary = inWords(plan, takenFrom, 'done', result.failed);
  pass.history = { planId: plan.id, outcome, summary: `${summary}${moved}${onWhoseWord(pass, plan, takenFrom)}` };
  if (result.kept.length > 0) pass.logger.warn('files that are on no list were moved aside', { kept: result.kept });
}

/** Paths in the history; what of them, and why, in the log. */
function tellResidue(pass: Pass, { changes, left }: Residue): void {
  if (changes.length > 0) pass.logger.info('took back what the runtime made of plugins', { changes });
  if (left.length === 0) return;
  pass.logger.warn('what plugins brought and somebody has changed, or nobody knows, was left', { left });
  const told = left.slice(0, MOST_LEFT_TOLD).map(({ path, why }) => `${path} (${why})`);
  const more = left.length > told.length ? ` and ${left.length - told.length} more` : '';
  const { history } = pass;
  if (history !== undefined)
    pass.history = { ...history, summary: `${history.summary}; left ${told.join(', ')}${more}` };
}

const MOST_LEFT_TOLD = 3;

/** The operator's word by which it was done. */
function onWhoseWord({ grants }: Pass, plan: Plan, takenFrom: string | undefined): string {
  const taken = takenFrom !== undefined && grants.takeover ? `; takeover asked for by ${grants.takeover.by}` : '';
  const { approval } = grants;
  return approval && subjectOf(approval.text) === plan.id ? `${taken}; approved by ${approval.by}` : taken;
}

/** What came without its settings came all the same. */
function withSettings({ entries }: Plan, failed: Failed, failedSettings: Failed): Failed {
  const alone = new Set(entries.flatMap(({ action, plugin }) => (action === 'configure' ? [plugin] : [])));
  return new Map([...[...failedSettings].filter(([plugin]) => alone.has(plugin)), ...failed]);
}

/**
 * Verdicts after an apply: what failed says why; what is still to do without a failure did not take effect, or, where it
 * was no part of the plan, was changed on the target by somebody else.
 */
function withFailures(plan: Plan, after: Gated, failed: Failed): readonly Verdict[] {
  const touched = new Set(plan.entries.map((entry) => entry.plugin));
  const unfinished = new Set(after.allowed.entries.map((entry) => entry.plugin));
  return after.verdicts.map((verdict) => {
    const error =
      failed.get(verdict.name) ??
      (unfinished.has(verdict.name) ? unfinishedError(verdict.name, touched.has(verdict.name)) : undefined);
    if (error === undefined) return verdict;
    return { ...verdict, state: 'Failed', reason: error.reason, message: error.message, error };
  });
}

function unfinishedError(name: PluginName, wasTouched: boolean): ReconcileError {
  return wasTouched
    ? transient('VerifyFailed', `plugin ${name}: the look after the change does not show it; it is tried again`)
    : transient('TargetMoved', `plugin ${name}: it was changed on the target meanwhile; it is looked at again`);
}

/** The whole transaction failed: every change of the plan with it, and as unknown where nobody can say. */
function withOneFailure(
  plan: Plan,
  verdicts: readonly Verdict[],
  error: ReconcileError,
  isUnknown: boolean,
): readonly Verdict[] {
  const touched = new Set(plan.entries.map((entry) => entry.plugin));
  const state = isUnknown ? 'Unknown' : 'Failed';
  return verdicts.map((verdict) =>
    touched.has(verdict.name) ? { ...verdict, state, reason: error.reason, message: error.message, error } : verdict,
  );
}
