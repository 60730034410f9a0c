import { Command } from 'commander';

import type { CliContext } from './context.ts';

export function versionCommand(context: CliContext): Command {
  return new Command('version')
    .description('print the version')
    .action(() => context.stdout.write(`${context.version}\n`));
}
