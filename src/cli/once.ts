import { Command } from 'commander';

import type { App, OnceResult } from '../app.ts';
import { splitWorkspaceKey } from '../domain/name.ts';
import { findCondition } from '../domain/condition.ts';
import { printable } from '../domain/text.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { errorData } from './errors.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { addEngineOptions, withApp } from './session.ts';
import { READY_COLORS } from './status-view.ts';
import { paintFor } from './style.ts';
import { formatTable, type Row } from './table.ts';
import { keysFrom, listKeys, namespaceOption, notFound, requireSome } from './workspaces.ts';

interface OnceOptions {
  readonly namespace?: string;
  readonly output: Format;
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

Exit codes: 0 every workspace is as declared (or suspended, or external), 1 at least one is not, or the command could
not run.`;

async function once(
  context: CliContext,
  app: App,
  names: readonly string[],
  { namespace, output }: OnceOptions,
): Promise<ExitCode> {
  const isEverything = names.length === 0 && namespace === undefined;
  const keys = isEverything
    ? undefined
    : names.length === 0
      ? await listKeys(app.store, namespace, context.signal)
      : keysFrom(names, namespace);
  if (keys !== undefined) requireSome(keys, namespace);
  for (const key of names.length === 0 ? [] : (keys ?? [])) {
    const loaded = await app.store.get(key, context.signal);
    if (loaded.kind === 'absent') throw await notFound(app.store, key, context.signal);
  }
  const results = await app.once(keys, context.signal, {
    onStandby: (holder) =>
      context.stderr.write(
        `waiting for the lease, which ${holder} holds (a daemon? plugset reconcile NAME --wait asks it)\n`,
      ),
    onResult: (result) => {
      if (context.stderr.isTerminal) context.stderr.write(progressLine(context, result));
    },
  });
  context.stdout.write(formatResults(context, results, output));
  return results.every(isDone) ? 0 : 1;
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
  return formatTable(headers, sorted.map(resultRow), paintFor(context.stdout));
}

function resultRow(result: OnceResult): Row {
  const { namespace, name } = splitWorkspaceKey(result.key);
  if (isGone(result)) return [namespace, name, '-', 'Deleted', '-', messageOf(result)];
  const ready = readyOf(result);
  const status =
    result.error === undefined ? (ready?.status ?? 'Unknown') : ready?.status === 'Unknown' ? 'Unknown' : 'False';
  const reason = result.error?.reason ?? ready?.reason ?? '-';
  return [
    namespace,
    name,
    { text: status, color: READY_COLORS[status] },
    reason,
    result.status?.summary ?? '-',
    messageOf(result),
  ];
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
  return result.error?.message ?? readyOf(result)?.message ?? 'no pass has reported';
}
