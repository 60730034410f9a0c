import { Command } from 'commander';

import { canonicalJson } from '../domain/digest.ts';
import { ReconcileError } from '../domain/errors.ts';
import { describePause, PAUSE_KEY } from '../domain/fleet.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { Leadership } from '../ports/leadership.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { OpenedStore } from '../stores.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { printError, printWarning } from './errors.ts';
import { describeAbsence } from './leader.ts';
import { formatDocument, listOf, outputOption, type Format } from './output.ts';
import { resourceOf } from './resource.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { goneRow, historyText, PLUGIN_HEADERS, pluginRow, statusHeaders, statusRow, timedRow } from './status-view.ts';
import { paintFor } from './style.ts';
import { formatTable, TablePrinter } from './table.ts';
import {
  allNamespacesOption,
  keyOf,
  keysFrom,
  listKeys,
  namespaceOption,
  notFound,
  readWorkspaces,
  type Declared,
} from './workspaces.ts';

interface StatusOptions {
  readonly namespace?: string;
  readonly output: Format;
  readonly watch?: boolean;
}

/** A status write names no key in the store's watch, so the rows themselves are compared. */
const WATCH_INTERVAL_MS = 1000;

export function statusCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('status')
    .summary('show what is declared and how far it is')
    .description(
      'Shows each workspace: whether it is as declared, why not, and how many of its plugins are in place.\n' +
        'With names, it also shows every plugin of these workspaces. It reads the store alone; no target is asked.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME; left out: all')
    .addOption(
      namespaceOption('only this namespace (a bare NAME without it: default, in a cluster that of the context)'),
    )
    .addOption(allNamespacesOption())
    .addOption(outputOption(['table', 'wide', 'name', 'json', 'yaml']))
    .option('-w, --watch', 'go on, printing every row that changes, until interrupted')
    .addHelpText('after', HELP)
    .action(async (names: string[], options: StatusOptions, self: Command) =>
      ends(await withOpened(context, self, (opened) => status(context, opened, names, options))),
    );
  return addStoreOptions(command);
}

const HELP = `
Columns:
  READY    True: the target is as declared, as the last look showed (Drifted: but for what policy.drift leaves).
           False: it is not.
           Unknown: nobody could look, or the newest declaration has not been worked on yet.
  PLUGINS  declared plugins that are in place / declared plugins
  DRIFT    plugins that somebody changed on the target
  AGE      how long READY has been what it is
  TIME     with --watch: when the row was as it is shown, by the clock of this machine
When no controller is running, a line on standard error says as of when this is.

Examples:
  plugset status                   all workspaces
  plugset status alice             one, with its plugins
  plugset status -n team-a -o wide
  plugset status -o name           names alone, as other commands take them
  plugset status -w                watch them converge, and what was done
  plugset status alice -o json | jq .status.conditions

Exit codes: 0 shown, 1 a named workspace is not declared or the store cannot be read.`;

/** Every name as it can be typed back: bare in the namespace that is meant without one. Reads no workspace. */
async function printNames(
  context: CliContext,
  store: WorkspaceStore,
  names: readonly string[],
  { namespace, watch: isWatch }: StatusOptions,
): Promise<ExitCode> {
  if (names.length > 0 || isWatch === true)
    throw new CliError('-o name lists what is declared, once; it takes neither names nor --watch');
  const home = namespace ?? 'default';
  for (const key of await listKeys(store, namespace, context.signal)) {
    const { namespace: its, name } = splitWorkspaceKey(key);
    context.stdout.write(`${its === home ? name : key}\n`);
  }
  return 0;
}

async function status(
  context: CliContext,
  { store, leadership, state }: OpenedStore,
  names: readonly string[],
  options: StatusOptions,
): Promise<ExitCode> {
  if (options.output === 'name') return printNames(context, store, names, options);
  const named = names.length === 0 ? undefined : keysFrom(names, options.namespace);
  const read = async (): Promise<readonly Declared[]> => {
    const keys = named ?? (await listKeys(store, options.namespace, context.signal));
    return readWorkspaces(store, keys, context.signal);
  };
  const workspaces = await read();
  const printer = new TablePrinter(
    statusHeaders(options.output === 'wide', options.watch === true),
    paintFor(context.stdout),
  );
  printAll(context, workspaces, named, options, printer);
  const found = new Set(workspaces.map(keyOf));
  const missing = (named ?? []).filter((key) => !found.has(key));
  for (const key of missing) printError(context, await notFound(store, key, context.signal));
  let noteAbsence = absenceNotes(context, leadership);
  try {
    const pause = await state.get(PAUSE_KEY, context.signal);
    if (pause !== undefined) context.stderr.write(`${printable(describePause(pause.value))}\n`);
    if (workspaces.length > 0 || options.watch === true) await noteAbsence();
  } catch (error) {
    if (!isHidden(error)) throw error;
    printWarning(context, 'you may not see whether a controller runs, or is paused');
    noteAbsence = async () => undefined;
  }
  if (options.watch === true) await watch(context, workspaces, read, noteAbsence, options, printer);
  return missing.length === 0 ? 0 : 1;
}

/** Who may see workspaces need not see what the controller keeps for itself. */
function isHidden(error: unknown): boolean {
  return (
    error instanceof ReconcileError && error.cause instanceof ReconcileError && error.cause.reason === 'AccessDenied'
  );
}

function printAll(
  context: CliContext,
  workspaces: readonly Declared[],
  named: readonly WorkspaceKey[] | undefined,
  options: StatusOptions,
  printer: TablePrinter,
): void {
  const { output } = options;
  const [first] = workspaces;
  if (output === 'json' || output === 'yaml') {
    const isSingle = named?.length === 1 && first !== undefined;
    context.stdout.write(formatDocument(isSingle ? resourceOf(first) : listOf(workspaces.map(resourceOf)), output));
    return;
  }
  if (first === undefined && named === undefined) {
    context.stderr.write(`no workspaces are declared${inNamespace(options)}\n`);
  }
  // Whoever watches gets rows later, which need their header.
  if (first === undefined && options.watch !== true) return;
  const nowMs = context.clock.now();
  const rows = workspaces.map((one) => statusRow(one, output === 'wide', nowMs));
  context.stdout.write(printer.table(options.watch === true ? rows.map((row) => timedRow(row, nowMs)) : rows));
  if (named === undefined || options.watch === true) return;
  for (const workspace of workspaces) context.stdout.write(pluginTable(context, workspace, nowMs));
}

function inNamespace({ namespace }: StatusOptions): string {
  return namespace === undefined ? '' : ` in namespace ${namespace}`;
}

function pluginTable(context: CliContext, declared: Declared, nowMs: number): string {
  const { plugins } = declared.status;
  const title = `\nPlugins of ${keyOf(declared)}`;
  if (plugins.length === 0) return `${title}: nothing was reported yet\n`;
  const byName = plugins.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const rows = byName.map((plugin) => pluginRow(plugin, nowMs));
  return `${title}\n${formatTable(PLUGIN_HEADERS, rows, paintFor(context.stdout))}`;
}

/** Prints what changes, until the person has seen enough. */
async function watch(
  context: CliContext,
  first: readonly Declared[],
  read: () => Promise<readonly Declared[]>,
  noteAbsence: () => Promise<void>,
  options: StatusOptions,
  printer: TablePrinter,
): Promise<never> {
  let before = new Map(first.map((one) => [keyOf(one), one]));
  for (;;) {
    await context.clock.sleep(WATCH_INTERVAL_MS, context.signal);
    const answer = await readOrWarn(context, async () => {
      await noteAbsence();
      return read();
    });
    if (answer === undefined) continue;
    const now = new Map(answer.map((one) => [keyOf(one), one]));
    const changed = [...now].filter(
      ([key, one]) => fingerprint(before.get(key), options.output) !== fingerprint(one, options.output),
    );
    const gone = [...before].filter(([key]) => !now.has(key));
    printChanges(
      context,
      changed.map(([key, one]) => ({ declared: one, happened: newsOf(before.get(key), one) })),
      gone.map(([, one]) => one),
      options,
      printer,
    );
    before = now;
  }
}

/** Says once, when nobody leads, how old that makes what is shown; and again when it comes to that anew. */
function absenceNotes(context: CliContext, leadership: Pick<Leadership, 'lastHolder'>): () => Promise<void> {
  let wasAbsent = false;
  return async () => {
    const absence = describeAbsence(await leadership.lastHolder(context.signal), context.clock.now());
    if (absence !== undefined && !wasAbsent) context.stderr.write(`${printable(absence)}\n`);
    if (absence === undefined && wasAbsent) context.stderr.write('a controller is running now\n');
    wasAbsent = absence !== undefined;
  };
}

/** What was done since the row before, by the newest entry of the history. */
function newsOf(before: Declared | undefined, now: Declared): string {
  const [newest] = now.status.history;
  return newest === undefined || newest.lastAt === before?.status.history[0]?.lastAt ? '' : historyText(newest);
}

/** A database that restarts does not end the watch. */
async function readOrWarn<T>(context: CliContext, read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof ReconcileError) || !['transient', 'waiting'].includes(error.class)) throw error;
    printWarning(context, `${error.message} (${error.reason}); trying again`);
    return undefined;
  }
}

/** What is printed of a workspace, its age aside: what cannot be seen has not changed. */
function fingerprint(declared: Declared | undefined, output: Format): string {
  if (declared === undefined) return '';
  const isData = output === 'json' || output === 'yaml';
  if (isData) return canonicalJson(resourceOf(declared));
  return canonicalJson([statusRow(declared, output === 'wide', 0), declared.status.history[0]?.lastAt]);
}

function printChanges(
  context: CliContext,
  changed: readonly { readonly declared: Declared; readonly happened: string }[],
  gone: readonly Declared[],
  { output }: StatusOptions,
  printer: TablePrinter,
): void {
  if (output === 'json' || output === 'yaml') {
    for (const { declared } of changed) context.stdout.write(formatDocument(resourceOf(declared), output, true));
    return;
  }
  const nowMs = context.clock.now();
  const rows = changed.map(({ declared, happened }) => statusRow(declared, output === 'wide', nowMs, happened));
  context.stdout.write(printer.rows([...rows, ...gone.map(goneRow)].map((row) => timedRow(row, nowMs))));
}
