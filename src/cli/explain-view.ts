import { shortRevision } from '../domain/change-words.ts';
import type { Condition } from '../domain/condition.ts';
import { REASONS } from '../domain/reason.ts';
import type { HistoryEntry, PluginStatus } from '../domain/status.ts';
import { printable } from '../domain/text.ts';
import type { Policy, Workspace } from '../domain/workspace.ts';
import { formatAge } from './age.ts';
import { outlookOf } from './outlook.ts';
import { READY_COLORS, targetName } from './status-view.ts';
import type { Paint } from './style.ts';
import { TablePrinter } from './table.ts';
import { keyOf, type Declared } from './workspaces.ts';

/** What a person wants to know about one workspace, top to bottom. Pure. */
export function formatExplanation(declared: Declared, nowMs: number, paint: Paint): string {
  const outlook = outlookOf(declared);
  const section = (title: string, lines: readonly string[]): string =>
    lines.length === 0 ? '' : `\n${paint('bold', title)}\n${lines.map((line) => `  ${line}\n`).join('')}`;
  return [
    `${paint('bold', `Workspace ${keyOf(declared)}`)}\n`,
    section('Declared', declaredLines(declared)),
    section('Problems', declared.kind === 'malformed' ? declared.problems.map(printable) : []),
    section('Conditions', conditionLines(declared.status.conditions, nowMs, paint)),
    section('Plugins that are not as they should be', pluginLines(declared, nowMs)),
    section(
      'What was done last',
      declared.status.history.map((entry) => historyLine(entry, nowMs)),
    ),
    section('What happens next', outlook.next),
    section('What you can do', outlook.advice.length === 0 ? ['Nothing has to be done.'] : outlook.advice),
  ].join('');
}

function declaredLines(declared: Declared): readonly string[] {
  if (declared.kind === 'malformed') return [`generation ${declared.generation}, which cannot be used`];
  const { workspace, status } = declared;
  const count = workspace.plugins.length;
  const plugins = `${count} plugin${count === 1 ? '' : 's'}`;
  const rows = [
    ['runtime', workspace.runtime],
    ['target', targetName(declared)],
    ['plugins', status.conditions.length === 0 ? plugins : `${plugins}, ${status.summary} in place`],
    ['policy', policyText(workspace.policy)],
    ['generation', generationText(workspace, status.observedGeneration)],
    ...(workspace.suspend ? [['suspend', 'true']] : []),
    ...(workspace.deleting ? [['deleted', 'no longer declared; its target is cleaned first']] : []),
  ];
  return new TablePrinter(['', '']).rows(rows).trimEnd().split('\n');
}

function policyText(policy: Policy): string {
  return Object.entries(policy)
    .map(([name, value]) => `${name} ${String(value)}`)
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

/** Foreign directories are none of our business; they are listed by `plugset status NAME`. */
function pluginLines({ status, ...declared }: Declared, nowMs: number): readonly string[] {
  const once = new Once();
  const isFine = (plugin: PluginStatus): boolean =>
    plugin.state === 'Unmanaged' || (plugin.state === 'Installed' && plugin.reason === 'Succeeded');
  return status.plugins
    .filter((plugin) => !isFine(plugin))
    .flatMap((plugin) => {
      const head = `${plugin.name} is ${plugin.state} for ${formatAge(plugin.since, nowMs)}: ${plugin.reason}`;
      const origin =
        declared.kind === 'found'
          ? declared.workspace.plugins.find((one) => one.name === plugin.name)?.origin
          : undefined;
      return [head, ...once.lines(plugin.message, REASONS[plugin.reason]), ...sourceLines(plugin, origin)];
    });
}

function sourceLines(plugin: PluginStatus, origin: string | undefined): readonly string[] {
  if (plugin.source === undefined) return [];
  const revision = plugin.revision === undefined ? '' : ` at ${shortRevision(plugin.revision)}`;
  return [`  from ${printable(plugin.source)}${revision}${origin === undefined ? '' : ` (declared in ${origin})`}`];
}

function historyLine(entry: HistoryEntry, nowMs: number): string {
  const times = entry.times === 1 ? '' : `, ${entry.times} times`;
  return `${formatAge(entry.lastAt, nowMs)} ago: ${printable(entry.summary)}: ${entry.outcome}${times}`;
}
