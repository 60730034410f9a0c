import type { Argument, Command, Option } from 'commander';

/** What may stand at a place of the command line. */
export type Value =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'workspaces' | 'files' | 'directories' | 'anything' };

export interface OptionGrammar {
  /** `-o` and `--output`. */
  readonly names: readonly string[];
  readonly summary: string;
  /** What follows it; `undefined`: nothing does. */
  readonly value: Value | undefined;
}

export interface CommandGrammar {
  readonly name: string;
  readonly summary: string;
  /** What its arguments are, all of them alike; `undefined`: it takes none. */
  readonly argument: Value | undefined;
  readonly options: readonly OptionGrammar[];
}

/** The program as shells complete it: they and commander then never disagree. */
export interface Grammar {
  readonly commands: readonly CommandGrammar[];
  /** Those before any command. */
  readonly options: readonly OptionGrammar[];
}

export function grammarOf(program: Command): Grammar {
  const help = program.createHelp();
  const commands = help.visibleCommands(program);
  const names = commands.map((command) => command.name());
  return {
    options: help.visibleOptions(program).map(optionOf),
    commands: commands.map((command) => ({
      name: command.name(),
      summary: summaryOf(help.subcommandDescription(command)),
      argument: command.registeredArguments.map((argument) => argumentOf(argument, names))[0],
      options: help.visibleOptions(command).map(optionOf),
    })),
  };
}

function argumentOf(argument: Argument, commands: readonly string[]): Value {
  const name = argument.name();
  if (argument.argChoices !== undefined) return { kind: 'words', words: argument.argChoices };
  if (name === 'command') return { kind: 'words', words: commands };
  if (name === 'WORKSPACE') return { kind: 'workspaces' };
  return { kind: name.startsWith('FILE') ? 'files' : 'anything' };
}

function optionOf(option: Option): OptionGrammar {
  const names = [option.short, option.long].filter((name) => name !== undefined);
  return { names, summary: summaryOf(option.description), value: valueOf(option) };
}

function valueOf({ argChoices, flags, required, optional }: Option): Value | undefined {
  if (!required && !optional) return undefined;
  if (argChoices !== undefined) return { kind: 'words', words: argChoices };
  const [, placeholder = ''] = /<([^>]+)>/.exec(flags) ?? [];
  if (/^dir\b/.test(placeholder)) return { kind: 'directories' };
  return { kind: /^(?:file|path)\b/.test(placeholder) ? 'files' : 'anything' };
}

/** Up to what --help says in brackets of variables and defaults: there is one line for it. */
function summaryOf(description: string): string {
  return description.split('\n', 1)[0]?.replace(/ \((?:env|default): .*$/, '') ?? '';
}
