import { findCondition, mergeConditions, type Condition, type NewCondition } from '../domain/condition.ts';
import type { ReconcileError } from '../domain/errors.ts';
import type { PluginName } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { DesiredPlugin, Verdict } from '../domain/plan.ts';
import type { Reason } from '../domain/reason.ts';
import type {
  HistoryEntry,
  Hold,
  LeftBehind,
  PendingActivation,
  PluginStatus,
  WorkspaceStatus,
} from '../domain/status.ts';
import { statusText } from '../domain/text.ts';

/** What a pass adds to the history. */
type NewHistory = Omit<HistoryEntry, 'firstAt' | 'lastAt' | 'times'>;

/** What a pass found out; the only input of a status besides the status before. */
export interface PassFacts {
  readonly generation: number;
  /** What the target is called, for tables. */
  readonly target: string;
  /** Names that are declared; the denominator of the summary. Empty while deleting. */
  readonly declared: readonly PluginName[];
  /** The whole pass ended early. */
  readonly error?: ReconcileError | undefined;
  /** A state that is not worked on at all. */
  readonly idle?: { readonly reason: 'Suspended' | 'Pull'; readonly message: string } | undefined;
  /** What was found on the target and concluded per plugin; absent when nobody could look. */
  readonly found?: { readonly observation: Observation; readonly verdicts: readonly Verdict[] } | undefined;
  /** ISO time of the last look that got through, this pass's included; left out where this process made none. */
  readonly lastLookAt?: string | undefined;
  /** The declaration is gone. */
  readonly deleting?: boolean | undefined;
  /** What its policy asks for and does not get; a text for each key. */
  readonly overruled?: readonly string[] | undefined;
  readonly desired: readonly DesiredPlugin[];
  readonly planId?: string | undefined;
  readonly history?: NewHistory | undefined;
  /** What was done so that the runtime takes changes up. */
  readonly restart?: NewHistory | undefined;
  readonly corrective: number;
  readonly intentional: number;
  /** What the runtime has not taken up; `null`: nothing; left out where that was not looked at. */
  readonly activation?: PendingActivation | null | undefined;
  /** Changes that mode, approval, pause or guard hold back. */
  readonly hold?: Hold | undefined;
  /** Mark of the place, once it is remembered. */
  readonly place?: string | undefined;
  /** Former places that are not clean yet; left out where that was not asked. */
  readonly leftBehind?: readonly LeftBehind[] | undefined;
  /** What was done in former places. */
  readonly elsewhere?: readonly NewHistory[] | undefined;
  readonly handledRequest?: string | undefined;
  readonly handledApproval?: string | undefined;
  readonly handledTakeover?: string | undefined;
}

/** Folds the facts of a pass into the status, by the kstatus rules. Pure. */
export function summarize(previous: WorkspaceStatus, facts: PassFacts, now: string): WorkspaceStatus {
  const plugins = pluginRows(previous, facts, now);
  const pendingBefore = findCondition(previous.conditions, 'ActivationPending');
  const leftBehind = (facts.leftBehind ?? previous.leftBehind ?? []).map(fitLeftBehind);
  const conditions = conditionsOf({ ...facts, leftBehind }, plugins, pendingBefore);
  const settled = conditions.some(
    (condition) =>
      (condition.type === 'Ready' && (condition.status === 'True' || facts.idle !== undefined)) ||
      condition.type === 'Stalled' ||
      // Nothing more is done for this generation until somebody says so.
      (condition.type === 'Ready' && condition.reason === facts.hold?.reason),
  );
  return {
    observedGeneration: settled ? facts.generation : previous.observedGeneration,
    conditions: mergeConditions(previous.conditions, conditions, now),
    summary: summaryOf(facts, plugins),
    target: facts.target === '' ? previous.target : statusText(facts.target),
    plugins,
    converged: convergedTrees(previous, { ...facts, leftBehind }, plugins),
    planId: facts.planId ?? previous.planId,
    place: facts.place ?? previous.place,
    leftBehind: leftBehind.length === 0 ? undefined : leftBehind,
    history: [facts.history, facts.restart, ...(facts.elsewhere ?? [])].reduce(
      (history, entry) => appendHistory(history, entry, now),
      previous.history,
    ),
    held: heldFor(facts.hold),
    pruneHeldSince: pruneHeldSince(previous, facts, now),
    lastHandledReconcileAt: facts.handledRequest ?? previous.lastHandledReconcileAt,
    lastHandledApproval: facts.handledApproval ?? previous.lastHandledApproval,
    lastHandledTakeover: facts.handledTakeover ?? previous.lastHandledTakeover,
    corrective: previous.corrective + facts.corrective,
    intentional: previous.intentional + facts.intentional,
  };
}

function heldFor(hold: Hold | undefined): Hold | undefined {
  if (hold === undefined) return undefined;
  const { message, changes } = hold;
  return { ...hold, message: statusText(message), changes: changes.map(statusText) };
}

function fitLeftBehind({ place, reason, message }: LeftBehind): LeftBehind {
  return { place: statusText(place), reason, message: statusText(message) };
}

/** A pass that could not look, or that something else held back, has let nothing go. */
function pruneHeldSince(previous: WorkspaceStatus, { found, hold }: PassFacts, now: string): string | undefined {
  if (hold?.reason === 'PruneHeld') return hold.why === undefined ? undefined : (previous.pruneHeldSince ?? now);
  return found === undefined || hold !== undefined ? previous.pruneHeldSince : undefined;
}

/** `?` where nobody could look: what is on the target then is unknown, not absent. */
function summaryOf(facts: PassFacts, rows: readonly PluginStatus[]): string {
  const installed = facts.found === undefined ? '?' : rows.filter((row) => isInstalled(row, facts)).length;
  return `${installed}/${facts.declared.length}`;
}

function isInstalled(row: PluginStatus, facts: PassFacts): boolean {
  return row.state === 'Installed' && facts.declared.includes(row.name);
}

function pluginRows(previous: WorkspaceStatus, facts: PassFacts, now: string): readonly PluginStatus[] {
  const before = new Map(previous.plugins.map((row) => [row.name, row]));
  const rows = facts.found === undefined ? unseenRows(previous, facts) : seenRows(facts, facts.found);
  return rows.map((row) => {
    const old = before.get(row.name);
    const since = old?.state === row.state && old.reason === row.reason ? old.since : now;
    return { ...fitForTerminals(row), since };
  });
}

function fitForTerminals(row: Row): Row {
  const fit = (text: string | undefined): string | undefined => (text === undefined ? undefined : statusText(text));
  const { source, revision, version, message } = row;
  return {
    ...row,
    source: fit(source),
    revision: fit(revision),
    version: fit(version),
    message: statusText(message),
  };
}

function convergedTrees(
  previous: WorkspaceStatus,
  facts: PassFacts,
  rows: readonly PluginStatus[],
): WorkspaceStatus['converged'] {
  const mayLie = new Set<string>([...facts.declared, ...rows.flatMap(({ managed, name }) => (managed ? name : []))]);
  // Until a look shows that it is gone, also from where the workspace was before.
  const isSeen = facts.found !== undefined && (facts.leftBehind ?? []).length === 0;
  const kept = Object.entries(previous.converged).filter(([name]) => !isSeen || mayLie.has(name));
  const seen = rows.flatMap((row) =>
    row.state === 'Installed' && row.digest !== undefined ? [[row.name, row.digest] as const] : [],
  );
  return Object.fromEntries([...kept, ...seen]);
}

type Row = Omit<PluginStatus, 'since'>;

/** Nobody could look: the state is unknown, never gone and never still there; what the last look showed is marked as such. */
function unseenRows(previous: WorkspaceStatus, facts: PassFacts): readonly Row[] {
  const { reason, message } = facts.idle ??
    facts.error ?? { reason: 'Progressing' as const, message: 'not looked at yet' };
  const known = new Map(previous.plugins.map((row) => [row.name, row]));
  const names = new Set([...facts.declared, ...previous.plugins.filter((row) => row.managed).map((row) => row.name)]);
  const failed = new Map(
    facts.desired.flatMap((plugin) => (plugin.kind === 'unresolved' ? [[plugin.name, plugin.error]] : [])),
  );
  return [...names].map((name) => ({
    name,
    state: 'Unknown',
    managed: known.get(name)?.managed ?? false,
    source: known.get(name)?.source,
    ...lastSeen(known.get(name), facts.lastLookAt, previous.history[0]?.lastAt),
    reason: failed.get(name)?.reason ?? reason,
    message: failed.get(name)?.message ?? message,
    stalled: isStalled(failed.get(name)),
  }));
}

/**
 * Of a plugin that nobody can look at. Where no look is remembered, a row's `since` was one, and so was the end of the
 * newest change, which may have brought this revision.
 */
function lastSeen(
  row: PluginStatus | undefined,
  lastLookAt: string | undefined,
  changedAt = '',
): Pick<PluginStatus, 'revision' | 'version' | 'seenAt'> {
  if (row === undefined || (row.revision === undefined && row.version === undefined)) return {};
  return {
    revision: row.revision,
    version: row.version,
    seenAt: row.seenAt ?? lastLookAt ?? (changedAt > row.since ? changedAt : row.since),
  };
}

function isStalled(error: ReconcileError | undefined): true | undefined {
  return error?.class === 'terminal' ? true : undefined;
}

function seenRows(facts: PassFacts, found: NonNullable<PassFacts['found']>): readonly Row[] {
  const desired = new Map(facts.desired.map((plugin) => [plugin.name, plugin]));
  const observed = new Map(found.observation.plugins.map((plugin) => [plugin.name, plugin]));
  return found.verdicts.map((verdict): Row => {
    const wanted = desired.get(verdict.name);
    const seen = observed.get(verdict.name);
    const whole = seen?.present === true && seen.differing.length === 0;
    return {
      name: verdict.name,
      state: verdict.state,
      managed: verdict.managed,
      source: wanted?.source ?? seen?.receipt?.source,
      revision:
        verdict.state === 'Installed' && wanted?.kind === 'resolved' ? wanted.revision : seen?.receipt?.revision,
      digest: whole ? seen.listDigest : undefined,
      version: seen?.manifest.version,
      reason: verdict.reason,
      message: verdict.message,
      stalled: isStalled(verdict.error),
    };
  });
}

type Make = (
  type: NewCondition['type'],
  status: NewCondition['status'],
  reason: Reason,
  message: string,
) => NewCondition;

function conditionsOf(
  facts: PassFacts,
  rows: readonly PluginStatus[],
  pendingBefore: Condition | undefined,
): readonly NewCondition[] {
  const make: Make = (type, status, reason, message) => ({
    type,
    status,
    reason,
    message,
    observedGeneration: facts.generation,
  });
  const { idle, overruled = [], leftBehind: [left] = [] } = facts;
  const conditions =
    overruled.length === 0 ? [] : [make('PolicyOverruled', 'True', 'PolicyLocked', overruled.join('; '))];
  if (left !== undefined) conditions.push(make('LeftBehind', 'True', left.reason, leftWords(facts)));
  if (idle === undefined)
    return [
      ...conditions,
      ...targetConditions(make, facts, rows, pendingBefore),
      ...readyConditions(make, facts, rows),
    ];
  const { reason, message } = idle;
  return [...conditions, make('Ready', 'Unknown', reason, message), make('Reachable', 'Unknown', reason, message)];
}

/** What was seen on the target, beside what speaks for the workspace as a whole. */
function targetConditions(
  make: Make,
  facts: PassFacts,
  rows: readonly PluginStatus[],
  pendingBefore: Condition | undefined,
): readonly NewCondition[] {
  const reachable = reachableOf(facts);
  const conditions = [make('Reachable', reachable.status, reachable.reason, reachable.message)];
  const drifted = rows.filter((row) => row.state === 'Drifted');
  if (drifted.length > 0) {
    const message = drifted.map((row) => `${row.name}: ${row.message}`).join('; ');
    conditions.push(make('Drifted', 'True', 'Drifted', message));
  }
  const activation = facts.activation === undefined && facts.deleting !== true ? pendingBefore : facts.activation;
  if (activation) conditions.push(make('ActivationPending', 'True', activation.reason, activation.message));
  return conditions;
}

/** Ready, with Stalled or Reconciling where it is not. */
function readyConditions(make: Make, facts: PassFacts, rows: readonly PluginStatus[]): readonly NewCondition[] {
  const problem = facts.error ?? problemOf(facts.found?.verdicts ?? []);
  if (problem !== undefined) {
    const { reason, message } = problem;
    const ready = make('Ready', readyStatusOf(problem), reason, message);
    if (problem.class === 'terminal') return [ready, make('Stalled', 'True', reason, message)];
    return [
      ready,
      make('Reconciling', 'True', problem.class === 'waiting' ? 'Progressing' : 'ProgressingWithRetry', message),
    ];
  }
  if (facts.hold !== undefined) {
    const { reason, message, changes } = facts.hold;
    // Not Reconciling: nobody is at work on it, and nobody will be until a person says so.
    return [make('Ready', 'False', reason, `${changes.join(', ')}: ${message}`)];
  }
  if (facts.deleting === true) {
    const message = 'what plugset installed is taken away';
    return [make('Ready', 'False', 'Deleting', message), make('Reconciling', 'True', 'Deleting', message)];
  }
  // Ready still: nothing is left to do. But not for everything being as declared.
  const isLeft = rows.some((row) => row.state === 'Drifted' && facts.declared.includes(row.name));
  return [make('Ready', 'True', isLeft ? 'Drifted' : 'Succeeded', readyMessage(facts, rows))];
}

/** Ready is False when we saw that it is not so, and Unknown when we could not see. */
function readyStatusOf(problem: Problem): 'False' | 'Unknown' {
  return problem.class === 'unknown' || UNSEEN.has(problem.reason) ? 'Unknown' : 'False';
}

const UNSEEN: ReadonlySet<Reason> = new Set<Reason>([
  'Unreachable',
  'ObserveFailed',
  'ExecTimeout',
  'StoreUnavailable',
  'PassTimeout',
]);
const ABSENT: ReadonlySet<Reason> = new Set<Reason>([
  'WorkspaceNotFound',
  'WorkspaceNotRunning',
  'PodPending',
  'PodNotReady',
  'ContainerRestarting',
  'PodCompleted',
  'PodEvicted',
]);

function reachableOf(facts: PassFacts): { status: NewCondition['status']; reason: Reason; message: string } {
  if (facts.found !== undefined) {
    const { odd } = facts.found.observation;
    const message = odd.length === 0 ? 'looked at' : `looked at; under plugins/, and no plugin: ${odd.join(', ')}`;
    return { status: 'True', reason: 'Succeeded', message };
  }
  if (facts.error === undefined) return { status: 'Unknown', reason: 'Progressing', message: 'not looked at yet' };
  const { reason, message } = facts.error;
  return { status: ABSENT.has(reason) ? 'False' : 'Unknown', reason, message };
}

/**
 * What speaks for the workspace when plugins failed. One that needs a person comes first, whatever is tried again beside
 * it: without that person the workspace never becomes Ready, so it is Stalled, and stays so while others come and go.
 */
function problemOf(verdicts: readonly Verdict[]): Problem | undefined {
  const failed = verdicts.flatMap(({ name, error }) => (error === undefined ? [] : [{ name, error }]));
  const stalled = failed.filter(({ error }) => error.class === 'terminal');
  const retried = failed.filter(({ error }) => error.class !== 'terminal');
  const first = stalled[0] ?? retried[0];
  if (first === undefined) return undefined;
  const isMixed = stalled.length > 0 && retried.length > 0;
  const also = (isMixed ? stalled : failed).filter((one) => one !== first).map((one) => one.name);
  const message = [
    `${isMixed ? 'needs a person: ' : ''}${namedMessage(first.name, first.error)}`,
    also.length === 0 ? '' : `; also failed: ${also.join(', ')}`,
    isMixed ? `; tried again meanwhile: ${retried.map((one) => one.name).join(', ')}` : '',
  ].join('');
  return { class: first.error.class, reason: first.error.reason, message };
}

function namedMessage(name: PluginName, { message }: ReconcileError): string {
  return message.startsWith(`plugin ${name}`) ? message : `plugin ${name}: ${message}`;
}

/** What speaks for the workspace when it is not ready. */
type Problem = Pick<ReconcileError, 'class' | 'reason' | 'message'>;

function readyMessage(facts: PassFacts, rows: readonly PluginStatus[]): string {
  const installed = rows.filter((row) => isInstalled(row, facts)).length;
  const base = `${installed} of ${facts.declared.length} plugins as declared`;
  const noted = rows.filter((row) => facts.declared.includes(row.name) && row.reason !== 'Succeeded');
  const left = (facts.leftBehind ?? []).length === 0 ? [] : [leftWords(facts)];
  return [base, ...noted.map((row) => `${row.name}: ${row.message}`), ...left].join('; ');
}

function leftWords({ leftBehind = [] }: PassFacts): string {
  return `left behind in ${leftBehind.map(({ place, message }) => `${place} (${message})`).join(', in ')}`;
}

const HISTORY_LENGTH = 5;

function appendHistory(
  history: readonly HistoryEntry[],
  entry: PassFacts['history'],
  now: string,
): readonly HistoryEntry[] {
  if (entry === undefined) return history;
  const newest = history[0];
  const summary = statusText(entry.summary);
  // A plan does not say all: a takeover and the end of an interrupted change may both be an empty one.
  const isSame = newest?.planId === entry.planId && newest.outcome === entry.outcome && newest.summary === summary;
  if (isSame) return [{ ...newest, lastAt: now, times: newest.times + 1 }, ...history.slice(1)];
  return [{ ...entry, summary, firstAt: now, lastAt: now, times: 1 }, ...history].slice(0, HISTORY_LENGTH);
}
