import { Command } from 'commander';

import { describePause, PAUSE_KEY } from '../domain/fleet.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { explanationData, formatExplanation } from './explain-view.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { addStoreOptions, withOpened } from './session.ts';
import { paintFor } from './style.ts';
import { readSchedule } from './wake-up.ts';
import { keysFrom, namespaceOption, notFound, readWorkspaces } from './workspaces.ts';

interface ExplainOptions {
  readonly namespace?: string;
  readonly output: Format;
}

export function explainCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('explain')
    .summary('why a workspace is in its state, and what happens next')
    .description(
      'Says in plain words what is declared, what the last pass found, which plugins are not as they should be and since\n' +
        'when, what happens next by itself and when, and what a person has to do. It reads the store and asks the daemon, if one\n' +
        'answers on telemetry.listen (PLUGSET_LISTEN); no target is asked.',
    )
    .argument('<WORKSPACE>', 'NAME or NAMESPACE/NAME')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (name: string, options: ExplainOptions, self: Command) =>
      ends(
        await withOpened(context, self, async (opened, config): Promise<ExitCode> => {
          const [key] = keysFrom([name], options.namespace);
          if (key === undefined) return 1;
          const { store, leadership } = opened;
          const [declared] = await readWorkspaces(store, [key], context.signal);
          if (declared === undefined) throw await unknown(store, key, context.signal);
          const holder = await leadership.lastHolder(context.signal);
          const leader = {
            isLeading: holder?.isLeading === true,
            authority: await opened.authority(context.signal),
          };
          const pause = await opened.state.get(PAUSE_KEY, context.signal);
          if (pause !== undefined) context.stderr.write(`${printable(describePause(pause.value))}\n`);
          const schedule = await readSchedule(context, key, leader, config);
          context.stdout.write(
            options.output === 'json' || options.output === 'yaml'
              ? formatDocument(explanationData(declared, holder, schedule), options.output)
              : formatExplanation(declared, holder, schedule, context.clock.now(), paintFor(context.stdout)),
          );
          return 0;
        }),
      ),
    );
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset explain alice
  plugset explain team-a/bob
  plugset explain alice -o json | jq -r .advice[]

Exit codes: 0 explained, 1 not declared or the store cannot be read.`;

/** Whoever took its file away asks what became of the rest. */
async function unknown(store: WorkspaceStore, key: WorkspaceKey, signal: AbortSignal): Promise<CliError> {
  const { message } = await notFound(store, key, signal);
  return new CliError(
    `${message}\n  If it was declared before, with policy.deletion Orphan (of files and platform tables the default), its plugins were left on its target.`,
  );
}
