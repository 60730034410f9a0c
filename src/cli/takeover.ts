import { Command } from 'commander';

import { isName, NAME_RULE, type WorkspaceKey } from '../domain/name.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { OpenedStore } from '../stores.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { grant } from './grant.ts';
import { addEngineOptions, withApp, withOpened } from './session.ts';
import { previewTakeover } from './takeover-preview.ts';
import { keysFrom, listKeys, namespaceOption, notFound } from './workspaces.ts';

interface TakeoverOptions {
  readonly namespace?: string;
  readonly from: string;
  readonly all?: boolean;
  readonly dryRun?: boolean;
}

export function takeoverCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('takeover')
    .summary('manage targets that another controller managed')
    .description(
      'A target says which controller manages it, and any other is refused (ForeignOwner). When that controller is gone for\n' +
        'good (a lost state directory, a database that was not kept), this hands its targets over to the one of this store.\n' +
        'Only from the controller that is named, one time within a day, as the workspace is declared now, and on record in its\n' +
        'history.\n' +
        'Written where plugset keeps what it remembers: a declaration cannot ask for it.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME')
    .requiredOption('--from <authority>', 'who manages them now, as the message of ForeignOwner says')
    .option('--dry-run', 'look at the targets, and say what would be taken over from whom; changes nothing')
    .option('--all', 'every declared workspace; those that nobody else manages are not touched')
    .addOption(namespaceOption('namespace of a bare NAME (default: default); with --all: only this one'))
    .addHelpText('after', HELP)
    .action(async (names: string[], options: TakeoverOptions, self: Command) =>
      ends(await run(context, self, names, options)),
    );
  return addEngineOptions(command);
}

const HELP = `
Examples:
  plugset explain alice                              who manages it now
  plugset takeover --all --from store-4f2a9c51e0d4 --dry-run   what that would take; looks for itself, as plan does
  plugset takeover alice --from store-4f2a9c51e0d4
  plugset takeover --all --from store-4f2a9c51e0d4

Make sure that the other controller does not run any more: it is refused from then on, and would report that.

Exit codes: 0 asked for; the daemon carries it out within moments, 1 a workspace is not declared
(--dry-run: or its target could not be looked at).`;

async function run(
  context: CliContext,
  command: Command,
  names: readonly string[],
  { namespace, from, all, dryRun }: TakeoverOptions,
): Promise<ExitCode> {
  if (!isName(from)) throw new CliError(`--from ${JSON.stringify(from)}: must be ${NAME_RULE}`);
  if (names.length > 0 === (all === true)) throw new CliError('which workspaces? Give their names, or --all');
  const keysIn = async (store: WorkspaceStore): Promise<readonly WorkspaceKey[]> =>
    all === true ? listKeys(store, namespace, context.signal) : keysFrom(names, namespace);
  return dryRun === true
    ? withApp(context, command, 'client', async (app) => previewTakeover(context, app, await keysIn(app.store), from))
    : withOpened(context, command, async (opened) => takeOver(context, opened, await keysIn(opened.store), from));
}

async function takeOver(
  context: CliContext,
  opened: OpenedStore,
  keys: readonly WorkspaceKey[],
  from: string,
): Promise<ExitCode> {
  const { store } = opened;
  let code: ExitCode = 0;
  for (const key of keys) {
    if (await grant(context, opened, key, 'takeover', from)) {
      context.stdout.write(`workspace ${key}: is taken over from ${from} if that manages its target\n`);
    } else {
      printError(context, await notFound(store, key, context.signal));
      code = 1;
    }
  }
  return code;
}
