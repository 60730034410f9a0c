import { ADVICE } from '../domain/advice.ts';
import type { Condition } from '../domain/condition.ts';
import { splitWorkspaceKey } from '../domain/name.ts';
import { REASONS } from '../domain/reason.ts';
import type { HistoryEntry, PluginStatus } from '../domain/status.ts';
import { countOf, printable } from '../domain/text.ts';
import { troubledPlugins } from '../domain/transition.ts';
import type { Workspace } from '../domain/workspace.ts';
import type { LeaseHolder } from '../ports/leadership.ts';
import { formatAge } from './age.ts';
import { describeAbsence } from './leader.ts';
import { outlookOf } from './outlook.ts';
import { readinessOf } from './readiness.ts';
import { historyText, READY_COLORS, revisionText, targetName } from './status-view.ts';
import type { Paint } from './style.ts';
import { TablePrinter } from './table.ts';
import type { Schedule } from './wake-up.ts';
import { keyOf, type Declared } from './workspaces.ts';

/** The same as data: for a program that shows it to people. Pure. */
export function explanationData(declared: Declared, holder: LeaseHolder | undefined, schedule: Schedule): unknown {
  const { ready, reason, message, since } = readinessOf(declared);
  const plugins = troubledPlugins(declared.status).map((plugin) => ({ ...plugin, advice: ADVICE[plugin.reason] }));
  return {
    kind: 'Explanation',
    workspace: splitWorkspaceKey(keyOf(declared)),
    ready,
    reason,
    message,
    since,
    controller: holder ?? null,
    plugins,
    history: declared.status.history,
    wakeUp: schedule.wakeUp ?? null,
    ...outlookOf(declared, holder, schedule),
  };
}

/** What a person wants to know about one workspace, top to bottom. Pure. */
export function formatExplanation(
  declared: Declared,
  holder: LeaseHolder | undefined,
  schedule: Schedule,
  nowMs: number,
  paint: Paint,
): string {
  const outlook = outlookOf(declared, holder, schedule);
  const isDeleting = declared.kind === 'found' && declared.workspace.deleting;
  const section = (title: string, lines: readonly string[]): string =>
    lines.length === 0 ? '' : `\n${paint('bold', title)}\n${lines.map((line) => `  ${line}\n`).join('')}`;
  return [
    `${paint('bold', `Workspace ${keyOf(declared)}`)}${isDeleting ? ' (Deleting)' : ''}\n`,
    section('Controller', [controllerLine(holder, nowMs)]),
    section('Declared', declaredLines(declared)),
    section('Problems', declared.kind === 'malformed' ? declared.problems.map(printable) : []),
    section('Conditions', conditionLines(declared.status.conditions, nowMs, paint)),
    section('Plugins that are not as they should be', pluginLines(declared, nowMs)),
    section(
      'What was done last',
      declared.status.history.map((entry) => historyLine(entry, nowMs)),
    ),
    section('What happens next', outlook.next.map(printable)),
    section('What you can do', outlook.advice.length === 0 ? ['Nothing has to be done.'] : outlook.advice),
  ].join('');
}

function declaredLines(declared: Declared): readonly string[] {
  if (declared.kind === 'malformed') return [`generation ${declared.generation}, which cannot be used`];
  const { workspace, status } = declared;
  const plugins = countOf(workspace.plugins.length, 'plugin');
  const rows = [
    ['runtime', workspace.runtime],
    ['target', targetName(declared)],
    ['plugins', status.conditions.length === 0 ? plugins : `${plugins}, ${status.summary} in place`],
    ['policy', policyText(workspace)],
    ['generation', generationText(workspace, status.observedGeneration)],
    ...(workspace.suspend ? [['suspend', 'true']] : []),
    ...(workspace.deleting ? [['deleted', 'no longer declared; its target is cleaned first']] : []),
  ];
  return new TablePrinter(['', '']).rows(rows).trimEnd().split('\n');
}

function policyText({ policy, lockedPolicy }: Workspace): string {
  const locked = new Set<string>(lockedPolicy);
  return Object.entries(policy)
    .map(([name, value]) => `${name} ${String(value)}${locked.has(name) ? " (operator's)" : ''}`)
    .join(', ');
}

function generationText({ generation }: Workspace, observed: number): string {
  if (observed < 0) return `${generation}; no pass has carried one to its end`;
  return observed === generation
    ? `${generation}`
    : `${generation}; the last one that was carried to its end is ${observed}`;
}

/** Each text once: Stalled repeats what Ready says, and a workspace what its only bad plugin says. */
class Once {
  readonly #said = new Set<string>();

  lines(...texts: readonly string[]): readonly string[] {
    const fresh = texts.filter((text) => text !== '' && !this.#said.has(text));
    for (const text of fresh) this.#said.add(text);
    return fresh.map((text) => `  ${printable(text)}`);
  }
}

function conditionLines(conditions: readonly Condition[], nowMs: number, paint: Paint): readonly string[] {
  if (conditions.length === 0) return ['none: no pass has reported yet'];
  const once = new Once();
  return conditions.flatMap((condition) => {
    const { type, status, reason, message, lastTransitionTime } = condition;
    const isGood = (status === 'True') === (type === 'Ready' || type === 'Reachable');
    const shown = paint(isGood ? READY_COLORS.True : READY_COLORS[status === 'Unknown' ? 'Unknown' : 'False'], status);
    const head = `${type} is ${shown} for ${formatAge(lastTransitionTime, nowMs)}: ${reason}`;
    // Succeeded speaks of the whole workspace; that it can be reached says less.
    const isReachable = type === 'Reachable' && status === 'True';
    return [head, ...(isReachable ? [] : once.lines(message, REASONS[reason]))];
  });
}

function pluginLines(declared: Declared, nowMs: number): readonly string[] {
  const once = new Once();
  return troubledPlugins(declared.status).flatMap((plugin) => {
    const person = plugin.stalled === true ? '; it needs a person' : '';
    const head = `${plugin.name} is ${plugin.state} for ${formatAge(plugin.since, nowMs)}: ${plugin.reason}${person}`;
    const origin =
      declared.kind === 'found'
        ? declared.workspace.plugins.find((one) => one.name === plugin.name)?.origin
        : undefined;
    // Its own message stands under each, or it would seem to be about the first one alone.
    const message = plugin.message === '' ? [] : [`  ${printable(plugin.message)}`];
    return [head, ...message, ...once.lines(REASONS[plugin.reason]), ...sourceLines(plugin, origin, nowMs)];
  });
}

function sourceLines(plugin: PluginStatus, origin: string | undefined, nowMs: number): readonly string[] {
  if (plugin.source === undefined) return [];
  const revision = revisionText(plugin, nowMs);
  // What is on the target meanwhile may have come from another source.
  const isAnother = plugin.state === 'Failed' || plugin.state === 'Pending';
  const at = revision === undefined || isAnother ? '' : ` at ${revision}`;
  const until = revision !== undefined && isAnother ? `; on the target is ${revision}` : '';
  const where = origin === undefined ? '' : ` (declared in ${origin})`;
  return [`  from ${printable(`${plugin.source}${at}${where}${until}`)}`];
}

function controllerLine(holder: LeaseHolder | undefined, nowMs: number): string {
  return printable(describeAbsence(holder, nowMs) ?? `${holder?.name} leads for ${formatAge(holder?.since, nowMs)}`);
}

function historyLine(entry: HistoryEntry, nowMs: number): string {
  const times = entry.times === 1 ? '' : `, ${entry.times} times`;
  return `${formatAge(entry.lastAt, nowMs)} ago: ${printable(historyText(entry))}${times}`;
}
