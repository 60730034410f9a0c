import { Command } from 'commander';

import { findCondition } from '../domain/condition.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import { formatDuration } from './age.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { durationFrom } from './duration-option.ts';
import { printError } from './errors.ts';
import { addStoreOptions, withStore } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';
import { REQUESTED_AT_ANNOTATION } from '../domain/workspace.ts';

interface ReconcileOptions {
  readonly namespace?: string;
  readonly wait?: boolean;
  readonly timeout?: number;
}

const DEFAULT_TIMEOUT_MS = 5 * 60_000;
const POLL_INTERVAL_MS = 500;
/** Longer than most passes take: whoever waits longer than that wants to know what for. */
const QUIET_MS = 10_000;

export function reconcileCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('reconcile')
    .summary('ask the daemon for a pass now')
    .description(
      'Asks the running daemon for a pass over these workspaces at once. The pass asks the sources anew, looks at every\n' +
        'file on the target, and starts the backoff of what failed over again.',
    )
    .argument('<WORKSPACE...>', 'NAME or NAMESPACE/NAME')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .option('--wait', 'wait until the pass was made and the workspaces are as declared')
    .option('--timeout <duration>', 'how long to wait: 90s, 5m (default: 5m)', durationFrom)
    .addHelpText('after', HELP)
    .action(async (names: string[], options: ReconcileOptions, self: Command) =>
      ends(await withStore(context, self, (store) => reconcile(context, store, names, options))),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset reconcile alice
  plugset reconcile alice team-a/bob --wait --timeout 2m

Exit codes: 0 the pass was asked for (--wait: and every workspace is Ready), 1 not declared, or not Ready in time, or
in a state that waiting does not end: one that needs a person, or where changes are held back until somebody agrees.`;

async function reconcile(
  context: CliContext,
  store: WorkspaceStore,
  names: readonly string[],
  options: ReconcileOptions,
): Promise<ExitCode> {
  const keys = keysFrom(names, options.namespace);
  const token = newToken(context);
  const deadlineMs = context.clock.monotonic() + (options.timeout ?? DEFAULT_TIMEOUT_MS);
  const requested: WorkspaceKey[] = [];
  for (const key of keys) {
    if (await store.annotate(key, { [REQUESTED_AT_ANNOTATION]: token }, context.signal)) {
      requested.push(key);
      context.stdout.write(`workspace ${key}: a pass was asked for\n`);
    } else printError(context, await notFound(store, key, context.signal));
  }
  const code = requested.length === keys.length ? 0 : 1;
  if (options.wait !== true) return code;
  const ends = await Promise.all(requested.map((key) => waitFor(context, store, key, token, deadlineMs, options)));
  return ends.every(Boolean) ? code : 1;
}

/** Fresh even when two people ask within one millisecond: a pass that handled the other's token is not ours. */
export function newToken({ clock }: CliContext): string {
  return `${new Date(clock.now()).toISOString()}-${Math.floor(clock.random() * 2 ** 32).toString(16)}`;
}

/** Waits until the pass is over, says how it ended, and answers whether the workspace is Ready. */
async function waitFor(
  context: CliContext,
  store: WorkspaceStore,
  key: WorkspaceKey,
  token: string,
  deadlineMs: number,
  { timeout = DEFAULT_TIMEOUT_MS }: ReconcileOptions,
): Promise<boolean> {
  const quietUntilMs = context.clock.monotonic() + QUIET_MS;
  let told = '';
  for (;;) {
    const loaded = await store.get(key, context.signal);
    const progress = progressOf(loaded, token);
    if (progress.kind === 'ready') {
      context.stdout.write(`workspace ${key} is ready: ${printable(progress.message)}\n`);
      return true;
    }
    if (progress.kind === 'stuck') {
      printError(context, new CliError(`workspace ${key}: ${printable(progress.message)}`));
      return false;
    }
    const leftMs = deadlineMs - context.clock.monotonic();
    if (leftMs <= 0) {
      printError(
        context,
        new CliError(`workspace ${key}: not ready after ${formatDuration(timeout)}; ${printable(progress.message)}`),
      );
      return false;
    }
    if (context.clock.monotonic() >= quietUntilMs && progress.message !== told) {
      context.stderr.write(`workspace ${key}: waiting; ${printable(progress.message)}\n`);
      told = progress.message;
    }
    await context.clock.sleep(Math.min(POLL_INTERVAL_MS, leftMs), context.signal);
  }
}

type Progress = { readonly kind: 'ready' | 'stuck' | 'waiting'; readonly message: string };

/** What a look at the store says of the pass that `token` asked for. Pure. */
export function progressOf(loaded: Loaded, token: string): Progress {
  if (loaded.kind === 'absent') return { kind: 'stuck', message: 'it was deleted meanwhile' };
  if (loaded.kind === 'malformed') {
    return { kind: 'stuck', message: `the declaration cannot be used (InvalidSpec): ${loaded.problems.join('; ')}` };
  }
  const { status, workspace } = loaded;
  if (status.lastHandledReconcileAt !== token) {
    const message =
      'no daemon has made the pass: is `plugset run` running on this store? (A long pass before it, or a target that hangs, delays it too.)';
    return { kind: 'waiting', message };
  }
  const ready = findCondition(status.conditions, 'Ready');
  if (ready === undefined) return { kind: 'waiting', message: 'the pass has reported no condition' };
  const message = `Ready is ${ready.status} (${ready.reason}): ${ready.message}`;
  if (ready.observedGeneration < workspace.generation)
    return { kind: 'waiting', message: 'it was declared anew meanwhile' };
  if (ready.status === 'True') return { kind: 'ready', message: ready.message };
  const isIdle = ready.reason === 'Suspended' || ready.reason === 'Pull';
  const isStalled = findCondition(status.conditions, 'Stalled') !== undefined;
  // Mode, approval, pause or guard: only a word of a person lets it go.
  const isHeld = status.held !== undefined && status.held.reason === ready.reason;
  return { kind: isIdle || isStalled || isHeld ? 'stuck' : 'waiting', message };
}
