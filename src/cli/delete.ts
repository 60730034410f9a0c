import { Command } from 'commander';

import { findCondition } from '../domain/condition.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import { formatDuration } from './age.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { readDeclarations } from './declarations.ts';
import { printError } from './errors.ts';
import { isDeletionStuck } from './readiness.ts';
import { addStoreOptions, withStore } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';

interface DeleteOptions {
  readonly filename?: readonly string[];
  readonly namespace?: string;
  readonly ignoreNotFound?: boolean;
}

export function deleteCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('delete')
    .summary('take workspaces out of the store')
    .description(
      'Takes declarations out of the store. A running daemon then removes from the target what plugset installed there\n' +
        '(policy.deletion: Remove) or leaves it as it is (Orphan); the workspace itself is never touched. Said once more, it\n' +
        'tells what a removal waits for.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME')
    .option('-f, --filename <path...>', 'the workspaces that these files, directories or - (standard input) declare')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .option('--ignore-not-found', 'a workspace that is not declared is no error')
    .addHelpText('after', HELP)
    .action(async (names: string[], options: DeleteOptions, self: Command) =>
      ends(await remove(context, self, names, options)),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset delete alice
  plugset delete -n team-a bob carol
  plugset delete -f alice.yaml --ignore-not-found

Exit codes: 0 none of them is declared any more, 1 one of them was not found or cannot be deleted.`;

async function remove(
  context: CliContext,
  command: Command,
  names: readonly string[],
  options: DeleteOptions,
): Promise<ExitCode> {
  const keys = [...keysFrom(names, options.namespace), ...(await keysInFiles(context, options))];
  if (keys.length === 0) throw new CliError('which workspace? Give its NAME, or -f FILE');
  const use = (store: WorkspaceStore): Promise<ExitCode> =>
    deleteAll(context, store, keys, options.ignoreNotFound === true);
  // Whether what is installed stays, policy says.
  return withStore(context, command, use, 'client', false);
}

async function deleteAll(
  context: CliContext,
  store: WorkspaceStore,
  keys: readonly WorkspaceKey[],
  ignoreNotFound: boolean,
): Promise<ExitCode> {
  let code: ExitCode = 0;
  for (const key of keys) {
    if (await store.delete(key, context.signal)) {
      context.stdout.write(`workspace ${key} deleted\n`);
      continue;
    }
    const removal = describeRemoval(await store.get(key, context.signal), context.clock.now());
    if (removal !== undefined) context.stdout.write(`workspace ${key} ${printable(removal)}\n`);
    else if (!ignoreNotFound) {
      printError(context, await notFound(store, key, context.signal));
      code = 1;
    }
  }
  return code;
}

/** Of a workspace that was deleted before and whose target is not clean yet: since when, and what that waits for. */
function describeRemoval(loaded: Loaded, nowMs: number): string | undefined {
  if (loaded.kind === 'absent') return undefined;
  if (loaded.kind === 'malformed')
    return loaded.deleting ? `is being removed already; waits for a person: ${loaded.problems.join('; ')}` : undefined;
  const { deleting, declaredAtMs } = loaded.workspace;
  if (!deleting) return undefined;
  const why = isDeletionStuck(loaded)
    ? `held up: ${findCondition(loaded.status.conditions, 'Ready')?.message}`
    : 'waits for the pass of a daemon that cleans its target';
  return `is being removed already: since ${formatDuration(nowMs - declaredAtMs)}, ${why}`;
}

/** A document that is malformed but says which workspace it means can be deleted all the same. */
async function keysInFiles(context: CliContext, options: DeleteOptions): Promise<readonly WorkspaceKey[]> {
  const files = await readDeclarations(context, options.filename ?? [], { takesPrinted: true });
  const unreadable = files.flatMap(({ parsed }) => (parsed.isPartial ? parsed.problems : []));
  if (unreadable.length > 0) throw new CliError(`nothing was deleted, because of\n  ${unreadable.join('\n  ')}`);
  return files.flatMap(({ parsed }) => parsed.documents.map((document) => document.key));
}
