import { Argument, Command } from 'commander';

import { bashScript } from './completion/bash.ts';
import { fishScript } from './completion/fish.ts';
import { grammarOf, type Grammar } from './completion/grammar.ts';
import { zshScript } from './completion/zsh.ts';
import type { CliContext } from './context.ts';

const SHELLS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const satisfies Record<
  string,
  (grammar: Grammar) => string
>;

/** `program`: what is completed; asked when it is complete itself. */
export function completionCommand(context: CliContext, program: () => Command): Command {
  return new Command('completion')
    .summary('a script that completes commands in bash, zsh or fish')
    .description(
      'Prints a script for a shell: it completes commands, options, their values, and names of workspaces, which it asks\n' +
        'the store for (plugset status -o name) that the line names, or the environment.',
    )
    .addArgument(new Argument('<SHELL>', 'the shell that is to read it').choices(Object.keys(SHELLS)))
    .addHelpText('after', HELP)
    .action((shell: keyof typeof SHELLS) => context.stdout.write(SHELLS[shell](grammarOf(program()))));
}

const HELP = `
Examples:
  source <(plugset completion bash)                                 in ~/.bashrc
  source <(plugset completion zsh)                                  in ~/.zshrc, after compinit
  plugset completion fish > ~/.config/fish/completions/plugset.fish

Exit codes: 0 printed, 1 no such shell.`;
