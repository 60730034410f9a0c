import { Command } from 'commander';

import { REQUESTED_AT_ANNOTATION, RESTART_REQUESTED_AT_ANNOTATION } from '../domain/workspace.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { newToken } from './reconcile.ts';
import { addStoreOptions, withStore } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';

interface RestartOptions {
  readonly namespace?: string;
}

export function restartCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('restart')
    .summary('ask the daemon to restart the runtime of a workspace')
    .description(
      'Asks the running daemon to restart these workspaces once, in the next pass: whatever policy.restart, the budgets and a\n' +
        'busy runtime say. Not while it starts, not where a restart would lose the plugins (NotDurable), and not while the\n' +
        'workspace is only observed, or the fleet paused: then it waits.',
    )
    .argument('<WORKSPACE...>', 'NAME or NAMESPACE/NAME')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addHelpText('after', HELP)
    .action(async (names: string[], options: RestartOptions, self: Command) =>
      ends(await withStore(context, self, (store) => restart(context, store, names, options))),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset restart alice
  kubectl annotate workspace alice plugset.dev/restartRequestedAt="$(date -Is)" --overwrite

plugset explain shows in the history what came of it.

Exit codes: 0 asked for, 1 a workspace is not declared.`;

async function restart(
  context: CliContext,
  store: WorkspaceStore,
  names: readonly string[],
  { namespace }: RestartOptions,
): Promise<ExitCode> {
  const token = newToken(context);
  const requests = { [REQUESTED_AT_ANNOTATION]: token, [RESTART_REQUESTED_AT_ANNOTATION]: token };
  let code: ExitCode = 0;
  for (const key of keysFrom(names, namespace)) {
    if (await store.annotate(key, requests, context.signal))
      context.stdout.write(`workspace ${key}: a restart was asked for\n`);
    else {
      printError(context, await notFound(store, key, context.signal));
      code = 1;
    }
  }
  return code;
}
