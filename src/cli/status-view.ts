import { shortRevision } from '../domain/change-words.ts';
import { findCondition } from '../domain/condition.ts';
import { splitWorkspaceKey } from '../domain/name.ts';
import type { HistoryEntry, PluginState, PluginStatus } from '../domain/status.ts';
import type { TargetSpec } from '../domain/workspace.ts';
import { formatAge } from './age.ts';
import { readinessOf } from './readiness.ts';
import type { Color } from './style.ts';
import type { Row } from './table.ts';
import { keyOf, type Declared } from './workspaces.ts';

const HEADERS = ['NAMESPACE', 'NAME', 'READY', 'REASON', 'PLUGINS', 'DRIFT', 'TARGET', 'AGE'] as const;

export function statusHeaders(isWide: boolean, isWatch = false): readonly string[] {
  const headers = isWatch ? ['TIME', ...HEADERS] : HEADERS;
  if (isWide) return [...headers, 'RUNTIME', 'PLAN', 'MESSAGE'];
  return isWatch ? [...headers, 'WHAT HAPPENED'] : headers;
}

/** A row as it came up while it was watched: with the local time before it, as clocks on walls show it. */
export function timedRow(row: Row, nowMs: number): Row {
  return [new Date(nowMs).toTimeString().slice(0, 'HH:MM:SS'.length), ...row];
}

/** `happened`: what is new in the history, for whoever watches; in a wide table it stands before the message. */
export function statusRow(declared: Declared, isWide: boolean, nowMs: number, happened = ''): Row {
  const { namespace, name } = splitWorkspaceKey(keyOf(declared));
  const { ready, reason, message, since } = readinessOf(declared);
  const row: Row = [
    namespace,
    name,
    { text: ready, color: READY_COLORS[ready] },
    reason,
    pluginCount(declared),
    driftCount(declared),
    targetName(declared),
    formatAge(since, nowMs),
  ];
  if (!isWide) return [...row, happened];
  const runtime = declared.kind === 'found' ? declared.workspace.runtime : '-';
  return [...row, runtime, shortPlanId(declared.status.planId), [happened, message].filter(Boolean).join('; ')];
}

/** Row of a workspace that went away while it was watched. */
export function goneRow(declared: Declared): Row {
  const { namespace, name } = splitWorkspaceKey(keyOf(declared));
  return [namespace, name, '-', 'Deleted', '-', '-', targetName(declared), '-'];
}

export const PLUGIN_HEADERS = ['NAME', 'STATE', 'REVISION', 'VERSION', 'REASON', 'SINCE', 'MESSAGE'] as const;

export function pluginRow(plugin: PluginStatus, nowMs: number): Row {
  return [
    plugin.name,
    { text: plugin.state, color: STATE_COLORS[plugin.state] },
    revisionText(plugin, nowMs) ?? '-',
    plugin.version ?? '-',
    plugin.reason,
    formatAge(plugin.since, nowMs),
    plugin.message,
  ];
}

/** `0123456789ab`, or `0123456789ab (5m ago)` where nobody can look now. */
export function revisionText({ revision, seenAt }: PluginStatus, nowMs: number): string | undefined {
  if (revision === undefined) return undefined;
  return seenAt === undefined
    ? shortRevision(revision)
    : `${shortRevision(revision)} (${formatAge(seenAt, nowMs)} ago)`;
}

/** What was done, in words that say themselves whether it worked. */
export function historyText({ summary, outcome }: HistoryEntry): string {
  return outcome === 'Unknown' ? `${summary}; what came of it is not known` : summary;
}

export const READY_COLORS: Readonly<Record<'True' | 'False' | 'Unknown', Color>> = {
  True: 'green',
  False: 'red',
  Unknown: 'yellow',
};

const STATE_COLORS: Readonly<Record<PluginState, Color>> = {
  Installed: 'green',
  Pending: 'yellow',
  Drifted: 'yellow',
  Failed: 'red',
  Removing: 'yellow',
  Held: 'yellow',
  Unmanaged: 'dim',
  Unknown: 'yellow',
};

/** What the target is called: by the last pass, else by the declaration. */
export function targetName(declared: Declared): string {
  if (declared.status.target !== '') return declared.status.target;
  return declared.kind === 'found' ? describeTarget(declared.workspace.target) : '-';
}

function describeTarget(target: TargetSpec): string {
  if ('docker' in target) return `container ${target.docker.container ?? 'by label or name rule'}`;
  if ('directory' in target) return `directory ${target.directory.path}`;
  if ('ssh' in target) return `host ${target.ssh.host}`;
  if ('ec2' in target) return `instance ${target.ec2.instanceId ?? 'by its tags'}`;
  if ('pod' in target) return `pod ${target.pod.name ?? 'by its labels'}`;
  return 'external';
}

function pluginCount(declared: Declared): string {
  if (declared.status.conditions.length > 0) return declared.status.summary;
  return declared.kind === 'found' ? `?/${declared.workspace.plugins.length}` : '?';
}

/** Plugins that differ from what was installed; `?` when nobody could look. */
function driftCount({ status }: Declared): string {
  if (findCondition(status.conditions, 'Reachable')?.status !== 'True') return '?';
  return String(status.plugins.filter((plugin) => plugin.state === 'Drifted').length);
}

function shortPlanId(planId: string | undefined): string {
  return planId === undefined ? '-' : planId.slice(0, 'sha256:'.length + 12);
}
