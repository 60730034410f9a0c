import { Command } from 'commander';

import type { App, OnceEvents, OnceResult } from '../app.ts';
import { findCondition } from '../domain/condition.ts';
import { ReconcileError } from '../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import type { Reason } from '../domain/reason.ts';
import { printable } from '../domain/text.ts';
import { Deadline } from '../ports/deadline.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import { formatAdviceOn } from './advice.ts';
import { formatDuration } from './age.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { durationFrom } from './duration-option.ts';
import { errorData, printError } from './errors.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { addEngineOptions, withApp } from './session.ts';
import { READY_COLORS } from './status-view.ts';
import { paintFor } from './style.ts';
import { formatTable, type Row } from './table.ts';
import { keysFrom, listKeys, namespaceOption, notFound, requireSome } from './workspaces.ts';

interface OnceOptions {
  readonly namespace?: string;
  readonly output: Format;
  /** Milliseconds; left out: as long as it takes. */
  readonly timeout?: number;
}

export function onceCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('once')
    .summary('one pass over everything, then exit')
    .description(
      'Makes one pass over every declared workspace, or the named ones, and ends: for cron, scripts and first tries.\n' +
        'It takes the same lease as a daemon and waits for it while another process leads.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME; left out: all')
    .addOption(namespaceOption('only this namespace (a bare NAME without it: default)'))
    .addOption(outputOption())
    .option('--timeout <duration>', 'give up after this: 90s, 5m (default: as long as it takes)', durationFrom)
    .addHelpText('after', HELP)
    .action(async (names: string[], options: OnceOptions, self: Command) =>
      // The table says what went wrong, so the log need not.
      ends(await withApp(context, self, 'controller', (app) => once(context, app, names, options), 'error')),
    );
  return addEngineOptions(command);
}

const HELP = `
Examples:
  plugset once                  everything
  plugset once alice            one workspace
  plugset once -o json          what came of it, for a program
  plugset once --timeout 5m     for cron: what is under way then is ended, and the next pass finishes it

Exit codes: 0 every workspace is as declared (or suspended, or external), 1 at least one is not or cannot be read,
the time was up, or the command could not run.`;

async function once(context: CliContext, app: App, names: readonly string[], options: OnceOptions): Promise<ExitCode> {
  const keys = await keysOf(context, app.store, names, options);
  const run = new OnceRun();
  const deadline =
    options.timeout === undefined ? undefined : new Deadline(context.clock, options.timeout, context.signal);
  try {
    await app.once(keys, deadline?.signal ?? context.signal, eventsFor(context, run));
  } catch (error) {
    if (deadline?.cause !== 'expired') throw error;
    return giveUp(context, run, options);
  } finally {
    deadline?.clear();
  }
  context.stdout.write(formatResults(context, run.results, options.output));
  const unread = keys === undefined ? tellUnread(context, app.store) : 0;
  return unread === 0 && run.results.every(isDone) ? 0 : 1;
}

/** What cannot be read holds up nothing else, and must not look as if it were done. How many namespaces that are. */
function tellUnread(context: CliContext, store: WorkspaceStore): number {
  const unread = [...(store.unread?.() ?? [])];
  for (const [namespace, why] of unread) {
    printError(
      context,
      new CliError(`namespace ${namespace} cannot be read, so no workspace in it was looked at: ${why}`),
    );
  }
  return unread.length;
}

/** The named ones, those of the namespace, or `undefined` for everything; refuses what is not declared before anything is done. */
async function keysOf(
  context: CliContext,
  store: WorkspaceStore,
  names: readonly string[],
  { namespace }: OnceOptions,
): Promise<readonly WorkspaceKey[] | undefined> {
  if (names.length === 0 && namespace === undefined) return undefined;
  if (names.length === 0) {
    const keys = await listKeys(store, namespace, context.signal);
    requireSome(keys, namespace);
    return keys;
  }
  const keys = keysFrom(names, namespace);
  for (const key of keys) {
    const loaded = await store.get(key, context.signal);
    if (loaded.kind === 'absent') throw await notFound(store, key, context.signal);
  }
  return keys;
}

/** How far it is. */
class OnceRun {
  readonly results: OnceResult[] = [];
  readonly begun = new Set<WorkspaceKey>();
  /** `undefined` while another process leads. */
  keys: readonly WorkspaceKey[] | undefined;
  holder: string | undefined;

  /** What has no result yet. */
  get unfinished(): readonly WorkspaceKey[] {
    const finished = new Set(this.results.map(({ key }) => key));
    return (this.keys ?? []).filter((key) => !finished.has(key));
  }
}

function eventsFor(context: CliContext, run: OnceRun): OnceEvents {
  const { stderr } = context;
  return {
    onStandby: (holder) => {
      run.holder = holder;
      stderr.write(`waiting for the lease, which ${holder} holds (a daemon? plugset reconcile NAME --wait asks it)\n`);
    },
    onLeading: (keys) => {
      run.keys = keys;
    },
    onBegin: (key) => run.begun.add(key),
    onResult: (result) => {
      run.results.push(result);
      if (stderr.isTerminal) stderr.write(progressLine(context, result));
    },
  };
}

/** The time is up: what has a result is shown with it, the rest with how far it came. */
function giveUp(context: CliContext, run: OnceRun, { timeout = 0, output }: OnceOptions): ExitCode {
  const time = formatDuration(timeout);
  if (run.keys === undefined) {
    const holder = run.holder === undefined ? 'nobody answered for the lease' : `${run.holder} still holds the lease`;
    printError(context, new CliError(`the time is up (--timeout ${time}): ${holder}; nothing was done`));
    return 1;
  }
  const unfinished = run.unfinished.map((key): OnceResult => {
    const how = run.begun.has(key) ? 'its pass was under way and was ended' : 'its pass had not begun';
    const error = new ReconcileError('aborted', 'Progressing', `${how} when the time was up (--timeout ${time})`);
    return { key, status: undefined, error };
  });
  context.stdout.write(formatResults(context, [...run.results, ...unfinished], output));
  const underWay = run.unfinished.filter((key) => run.begun.has(key));
  const waiting = unfinished.length - underWay.length;
  const rest = waiting === 0 ? '' : `; not begun: ${waiting} more`;
  const what = underWay.length === 0 ? 'nothing was under way' : `still under way: ${underWay.join(', ')}`;
  printError(context, new CliError(`the time is up (--timeout ${time}): ${what}${rest}`));
  return 1;
}

function progressLine(context: CliContext, result: OnceResult): string {
  const paint = paintFor(context.stderr);
  const mark = isDone(result) ? paint('green', 'ok') : paint('red', 'not ready');
  return `${result.key}: ${mark} ${printable(messageOf(result))}\n`;
}

function formatResults(context: CliContext, results: readonly OnceResult[], output: Format): string {
  const sorted = results.toSorted((a, b) => (a.key < b.key ? -1 : 1));
  if (output === 'json' || output === 'yaml') return formatDocument(listOf(sorted.map(resultData)), output);
  if (sorted.length === 0) return 'nothing is declared\n';
  const headers = ['NAMESPACE', 'NAME', 'READY', 'REASON', 'PLUGINS', 'MESSAGE'];
  const table = formatTable(headers, sorted.map(resultRow), paintFor(context.stdout));
  return table + formatAdviceOn(sorted.filter((result) => !isDone(result)).flatMap(reasonsOf));
}

function resultRow(result: OnceResult): Row {
  const { namespace, name } = splitWorkspaceKey(result.key);
  if (isGone(result)) return [namespace, name, '-', 'Deleted', '-', messageOf(result)];
  const ready = readyOf(result);
  const isUnknown = result.error?.class === 'aborted' || ready?.status === 'Unknown';
  const status = result.error === undefined ? (ready?.status ?? 'Unknown') : isUnknown ? 'Unknown' : 'False';
  return [
    namespace,
    name,
    { text: status, color: READY_COLORS[status] },
    spokesmanOf(result)?.reason ?? '-',
    result.status?.summary ?? '-',
    messageOf(result),
  ];
}

/** What speaks for the workspace: its report, which weighs its plugins, unless that could not be written. */
function spokesmanOf(result: OnceResult): { readonly reason: Reason; readonly message: string } | undefined {
  const ready = readyOf(result);
  const isReported = ready !== undefined && ready.status !== 'True' && result.error?.reason !== 'StoreUnavailable';
  return isReported ? ready : (result.error ?? ready);
}

function reasonsOf(result: OnceResult): readonly Reason[] {
  const own = spokesmanOf(result)?.reason;
  const failed = result.status?.plugins.filter((plugin) => plugin.state === 'Failed') ?? [];
  return [...(own === undefined ? [] : [own]), ...failed.map((plugin) => plugin.reason)];
}

function resultData({ key, status, error }: OnceResult): unknown {
  return { metadata: splitWorkspaceKey(key), status, error: error === undefined ? undefined : errorData(error) };
}

function readyOf(result: OnceResult): ReturnType<typeof findCondition> {
  return findCondition(result.status?.conditions ?? [], 'Ready');
}

/** A deleted workspace whose target is clean has no status any more, and nothing went wrong. */
function isGone(result: OnceResult): boolean {
  return result.status === undefined && result.error === undefined;
}

/** As declared, or of the kinds that are meant to be left alone. */
function isDone(result: OnceResult): boolean {
  if (isGone(result)) return true;
  const ready = readyOf(result);
  const isIdle = ready?.reason === 'Suspended' || ready?.reason === 'Pull';
  return result.error === undefined && (ready?.status === 'True' || isIdle);
}

function messageOf(result: OnceResult): string {
  if (isGone(result)) return 'no longer declared; cleaned up';
  return spokesmanOf(result)?.message ?? 'no pass has reported';
}
