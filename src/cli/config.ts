import { Command } from 'commander';

import { defaultStateDir, gatherSettings } from '../config.ts';
import { describeSettings, maskSettings, type DescribedSetting } from '../config/describe.ts';
import { settingOptions } from '../config/options.ts';
import { needsRestart } from '../config/reload.ts';
import type { CliContext } from './context.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { paintFor } from './style.ts';
import { formatTable } from './table.ts';

interface ConfigOptions {
  readonly output: Format;
}

export function configCommand(context: CliContext): Command {
  const command = new Command('config')
    .summary('the settings in force, and where each was given')
    .description(
      'Prints what the daemon would run with, given the same file, variables and flags: every setting, and where it\n' +
        'comes from. Passwords are masked. Opens no store and no target.',
    )
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action((options: ConfigOptions, self: Command) => print(context, options, self));
  for (const option of settingOptions('daemon')) command.addOption(option);
  return command;
}

const HELP = `
Examples:
  plugset config --config plugset.yaml              what is set, and by whom
  plugset config --config plugset.yaml -o yaml      the whole file with all defaults, to start one's own from

What was typed goes before variables, these before the file, and it before the defaults. CHANGES says whether a running
daemon takes a change of the file up (live) or at its next start.

Exit codes: 0 printed, 1 a setting cannot be used.`;

function print(context: CliContext, { output }: ConfigOptions, command: Command): void {
  const gathered = gatherSettings(command.opts());
  const { settings, origins } = gathered;
  if (output === 'yaml' || output === 'json') {
    context.stdout.write(formatDocument(maskSettings(settings), output));
    return;
  }
  const shown = withStateDir(describeSettings(settings, origins), defaultStateDir(gathered));
  const rows = shown.map(({ path, value, origin }) => [
    path,
    typeof value === 'string' ? value : JSON.stringify(value),
    needsRestart(path) ? 'restart' : 'live',
    { text: origin, color: origin.startsWith('default') ? ('dim' as const) : undefined },
  ]);
  context.stdout.write(formatTable(['SETTING', 'VALUE', 'CHANGES', 'FROM'], rows, paintFor(context.stdout)));
}

/**
 * Shown and no part of the file that is printed: with it there, another `store.files` would be given the state of this
 * one, and would look like a deletion of all of it.
 */
function withStateDir(shown: readonly DescribedSetting[], dir: string | undefined): readonly DescribedSetting[] {
  if (dir === undefined) return shown;
  const row = { path: 'store.stateDirectory', value: dir, origin: 'default, for this store.files' };
  return shown.flatMap((one) => (one.path === 'store.files' ? [one, row] : [one]));
}
