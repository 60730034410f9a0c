import type { Preview } from '../app.ts';
import { treesOf } from '../domain/change-words.ts';
import { shortDigest } from '../domain/digest.ts';
import type { ReconcileError } from '../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import type { PlanAction, PlanEntry, Verdict } from '../domain/plan.ts';
import type { ResidueChange } from '../domain/residue.ts';
import type { Reason } from '../domain/reason.ts';
import { countOf, printable } from '../domain/text.ts';
import { overruledPolicy, uncountedApproval } from '../domain/workspace.ts';
import { formatAdviceOn } from './advice.ts';
import type { ExitCode } from './context.ts';
import { errorData } from './errors.ts';
import { filesRows } from './plan-files.ts';
import { restartLine } from './restart-line.ts';
import type { Color, Paint } from './style.ts';
import { TablePrinter, type Row } from './table.ts';

/** What planning one workspace came to. */
export type PlanOutcome =
  | { readonly kind: 'planned'; readonly key: WorkspaceKey; readonly preview: Preview }
  /** Nobody looks at it. */
  | { readonly kind: 'idle'; readonly key: WorkspaceKey; readonly why: string }
  | { readonly kind: 'failed'; readonly key: WorkspaceKey; readonly error: ReconcileError };

const MARKS: Readonly<Record<PlanAction, readonly [mark: string, color: Color]>> = {
  install: ['+', 'green'],
  replace: ['~', 'yellow'],
  restore: ['^', 'yellow'],
  adopt: ['=', 'green'],
  configure: ['*', 'yellow'],
  remove: ['-', 'red'],
};

const ACTIONS = Object.keys(MARKS) as readonly PlanAction[];
/** Paths of a restore that a line shows. */
const SHOWN_PATHS = 3;

/** 1 as soon as something could not be worked out, since then nobody knows; else 2 when something would change. */
export function planExitCode(outcomes: readonly PlanOutcome[]): ExitCode {
  if (outcomes.some((outcome) => failuresIn(outcome) > 0)) return 1;
  return outcomes.some(wouldChange) ? 2 : 0;
}

export function formatPlan(outcome: PlanOutcome, paint: Paint): string {
  switch (outcome.kind) {
    case 'failed':
      return `${paint('bold', outcome.key)}: ${paint('red', 'cannot be planned')}: ${printable(outcome.error.message)} (${outcome.error.reason})\n`;
    case 'idle':
      return `${paint('bold', outcome.key)}: ${printable(outcome.why)}\n`;
    case 'planned':
      return formatPreview(outcome.key, outcome.preview, paint);
  }
}

/** What a person does about what failed: a line for each reason. */
export function formatAdvice(outcomes: readonly PlanOutcome[]): string {
  const reasons = outcomes.flatMap((outcome): readonly Reason[] => {
    if (outcome.kind === 'idle') return [];
    if (outcome.kind === 'failed') return [outcome.error.reason];
    const { verdicts } = outcome.preview.planned;
    return verdicts.filter((verdict) => verdict.state === 'Failed').map((verdict) => verdict.reason);
  });
  const advice = formatAdviceOn(reasons);
  return advice === '' ? '' : `${advice}\n`;
}

/** The last line: what all of it comes to. */
export function formatSummary(outcomes: readonly PlanOutcome[]): string {
  const entries = outcomes.flatMap(entriesOf);
  const changing = outcomes.filter(wouldChange).length;
  const counts = ACTIONS.map((action) => [action, entries.filter((entry) => entry.action === action).length] as const)
    .filter(([, count]) => count > 0)
    .map(([action, count]) => `${count} to ${action}`);
  const unplanned = outcomes.filter((outcome) => outcome.kind === 'failed').length;
  const failures = outcomes.reduce((sum, outcome) => sum + failuresIn(outcome), 0) - unplanned;
  const failed = [
    unplanned === 0 ? '' : `; ${countOf(unplanned, 'workspace')} cannot be planned`,
    failures === 0 ? '' : `; ${countOf(failures, 'plugin')} cannot be had`,
  ].join('');
  if (changing === 0)
    return `Plan: nothing to change in ${countOf(outcomes.length - unplanned, 'workspace')}${failed}\n`;
  const what = counts.length === 0 ? 'an interrupted change to finish' : counts.join(', ');
  return `Plan: ${what}, in ${changing} of ${countOf(outcomes.length, 'workspace')}${failed}\n`;
}

/** The plan as data, with its id: what a program or a reviewer compares. */
export function planData(outcome: PlanOutcome): unknown {
  const workspace = splitWorkspaceKey(outcome.key);
  switch (outcome.kind) {
    case 'failed':
      return { kind: 'Plan', workspace, error: errorData(outcome.error) };
    case 'idle':
      return { kind: 'Plan', workspace, changes: [], idle: outcome.why };
    case 'planned': {
      const { former, planned, target, observation } = outcome.preview;
      const plugins = planned.verdicts.map(({ name, state, managed, reason, message }) => ({
        name,
        state,
        managed,
        reason,
        message,
      }));
      const { id, entries } = planned.plan;
      const overruled = overruledIn(outcome.preview);
      return {
        kind: 'Plan',
        workspace,
        target,
        id,
        changes: entries.map((entry) => ({ ...entry, files: outcome.preview.files.get(entry.plugin) })),
        plugins,
        finishInterrupted: observation.journalPending,
        ...residueData(outcome.preview.residue),
        restart: outcome.preview.restart,
        held: planned.hold,
        former: former.length === 0 ? undefined : former.map(formerData),
        ...(overruled.length === 0 ? {} : { overruled }),
      };
    }
  }
}

/** What the declaration asks for, and does not get from the operator. */
function overruledIn({ planned, workspace }: Preview): readonly string[] {
  const { hold, plan } = planned;
  return [...overruledPolicy(workspace), ...uncountedApproval(workspace, hold?.reason, plan.id)];
}

/** The id that it would have under another mode is another one, so that none is shown. */
const NOTHING_TO_APPROVE = ', under which nothing is approved: set it to Plan, and plan again for an id to approve';

function formatPreview(key: WorkspaceKey, preview: Preview, paint: Paint): string {
  const { planned, target, observation } = preview;
  const { entries, id } = planned.plan;
  const noted = planned.verdicts.filter((verdict) => isNoted(verdict, entries));
  const title = `${paint('bold', key)} (${printable(target)})`;
  const overruled = overruledIn(preview)
    .map((text) => `  ${paint('yellow', 'warning')}: ${printable(text)}\n`)
    .join('');
  if (entries.length === 0 && noted.length === 0 && preview.former.length === 0 && !observation.journalPending)
    return `${title}: nothing to do\n${overruled}`;
  const interrupted = observation.journalPending ? '  a change that was interrupted is finished first\n' : '';
  const rows = [
    ...entries.flatMap((entry) => [entryRow(entry, planned.verdicts), ...filesRows(preview.files.get(entry.plugin))]),
    ...residueRows(preview.residue),
    ...noted.map(notedRow),
    ...preview.former.flatMap(formerRows),
  ];
  const { hold } = planned;
  const isApprovable = hold?.reason !== 'ObserveOnly';
  const waits =
    hold === undefined
      ? ''
      : `  ${paint('yellow', `waits (${hold.reason})`)}: ${countOf(hold.changes.length, 'change')}; ${printable(hold.message)}${isApprovable ? '' : NOTHING_TO_APPROVE}\n`;
  const shownId = isApprovable ? `  ${paint('dim', `plan ${shortDigest(id)}`)}` : '';
  return `${title}${shownId}\n${overruled}${interrupted}${indent(formatRows(rows, paint))}${restartLine(target, preview.restart)}${waits}`;
}

/** Worth a line although nothing would be done: it failed, or policy holds the change back. */
function isNoted(verdict: Verdict, entries: readonly PlanEntry[]): boolean {
  if (entries.some((entry) => entry.plugin === verdict.name)) return false;
  return verdict.state === 'Failed' || verdict.state === 'Held' || verdict.state === 'Drifted';
}

function entryRow(entry: PlanEntry, verdicts: readonly Verdict[]): Row {
  const [mark, color] = MARKS[entry.action];
  const what = describeEntry(
    entry,
    verdicts.find((verdict) => verdict.name === entry.plugin),
  );
  return [{ text: `${mark} ${entry.action}`, color }, entry.plugin, what, entry.origin];
}

function describeEntry(entry: PlanEntry, verdict: Verdict | undefined): string {
  if (entry.action !== 'restore') {
    // Of what plugset did not install it knows no list of files, so each of them is somebody's.
    const isKept = entry.labels.from?.isForeign === true && entry.action !== 'adopt';
    return isKept ? `${treesOf(entry)}; its files go to .plugset/kept/` : treesOf(entry);
  }
  const { differing } = entry;
  const more = differing.length > SHOWN_PATHS ? ` and ${differing.length - SHOWN_PATHS} more` : '';
  if (differing.length > 0) return `${treesOf(entry)}: ${differing.slice(0, SHOWN_PATHS).join(', ')}${more}`;
  const why = verdict?.message.replace(/; is restored$/, '');
  return why === undefined ? treesOf(entry) : `${treesOf(entry)}: ${why}`;
}

function notedRow(verdict: Verdict): Row {
  const isFailed = verdict.state === 'Failed';
  const mark: Row[number] = { text: isFailed ? '! failed' : '! held', color: isFailed ? 'red' : 'yellow' };
  return [mark, verdict.name, `${verdict.reason}: ${verdict.message}`];
}

const RESIDUE_MARKS: Readonly<Record<ResidueChange['action'], Row[number]>> = {
  edit: { text: '~ edit', color: 'yellow' },
  update: { text: '~ update', color: 'yellow' },
  restore: { text: '^ put back', color: 'yellow' },
  remove: { text: '- remove', color: 'red' },
};

/** What the runtime made of plugins beside their trees. */
function residueRows(residue: Preview['residue']): readonly Row[] {
  const { changes = [], left = [] } = residue ?? {};
  return [
    ...changes.map(({ path, action, parts }): Row => [RESIDUE_MARKS[action], path, parts.join(', ')]),
    ...left.map(({ path, why }): Row => [{ text: '! left', color: 'yellow' }, path, why]),
  ];
}

function residueData({ changes = [], left = [] }: Partial<NonNullable<Preview['residue']>> = {}): object {
  return changes.length + left.length === 0 ? {} : { residue: { changes, left } };
}

/** What lies where the workspace was before goes last. */
function formerRows(former: Preview['former'][number]): readonly Row[] {
  if (former.kind === 'left')
    return [[{ text: '! left', color: 'yellow' }, former.place, `${former.reason}: ${former.message}`]];
  const { hold, plan, verdicts } = former.planned;
  const origin = `in ${former.place}, where it was before`;
  const rows = plan.entries.map((entry) => entryRow({ ...entry, origin }, verdicts));
  return hold === undefined
    ? rows
    : [...rows, [{ text: '! held', color: 'yellow' }, former.place, `${hold.reason}: ${hold.message}`]];
}

function formerData(former: Preview['former'][number]): unknown {
  if (former.kind === 'left') return former;
  const { plan, hold } = former.planned;
  return { place: former.place, id: plan.id, changes: plan.entries, held: hold };
}

/** Without headers, which the marks make needless. */
function formatRows(rows: readonly Row[], paint: Paint): string {
  return new TablePrinter(['', '', '', ''], paint).rows(rows);
}

function indent(text: string): string {
  return text.replaceAll(/^(?=.)/gm, '  ');
}

function entriesOf(outcome: PlanOutcome): readonly PlanEntry[] {
  if (outcome.kind !== 'planned') return [];
  const { former, planned } = outcome.preview;
  return [planned, ...former.flatMap((one) => (one.kind === 'planned' ? one.planned : []))].flatMap(
    ({ plan }) => plan.entries,
  );
}

function wouldChange(outcome: PlanOutcome): boolean {
  if (outcome.kind !== 'planned') return false;
  return entriesOf(outcome).length > 0 || outcome.preview.observation.journalPending;
}

function failuresIn(outcome: PlanOutcome): number {
  if (outcome.kind === 'failed') return 1;
  if (outcome.kind === 'idle') return 0;
  return outcome.preview.planned.verdicts.filter((verdict) => verdict.state === 'Failed').length;
}
