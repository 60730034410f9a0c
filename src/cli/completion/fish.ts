import type { CommandGrammar, Grammar, OptionGrammar, Value } from './grammar.ts';

/** A script for fish 3 and newer. */
export function fishScript({ commands, options }: Grammar): string {
  const isFirst = '__fish_use_subcommand';
  const lines = [
    ...options.map((option) => optionLine(isFirst, option)),
    ...commands.map(({ name, summary }) => `complete -c plugset -n ${isFirst} -a ${name} -d ${quote(summary)}`),
    ...commands.flatMap(commandLines),
  ];
  return `# fish completion of plugset; load it with: plugset completion fish | source

# Asks the store that the line names, or the environment.
function __plugset_workspaces
    set -l words (commandline -opc)
    set -l given
    for i in (seq 2 (math (count $words) - 1))
        switch $words[$i]
            case --config --files --state-dir -n --namespace
                set -a given $words[$i] (string replace -r '^~/' "$HOME/" -- $words[(math $i + 1)])
        end
    end
    plugset status -o name $given 2>/dev/null
end

complete -c plugset -f
${lines.join('\n')}
`;
}

function commandLines({ name, argument, options }: CommandGrammar): readonly string[] {
  const isMeant = quote(`__fish_seen_subcommand_from ${name}`);
  const rest =
    argument === undefined ? [] : actionOf(argument).map((action) => `complete -c plugset -n ${isMeant} ${action}`);
  return [...options.map((option) => optionLine(isMeant, option)), ...rest];
}

function optionLine(condition: string, { names, summary, value }: OptionGrammar): string {
  const flags = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
  const action = value === undefined ? [] : ['-r', ...actionOf(value)];
  return ['complete -c plugset -n', condition, ...flags, ...action, '-d', quote(summary)].join(' ');
}

function actionOf(value: Value): readonly string[] {
  switch (value.kind) {
    case 'words':
      return [`-f -a ${quote(value.words.join(' '))}`];
    case 'workspaces':
      return ["-f -a '(__plugset_workspaces)'"];
    case 'files':
      return ['-F'];
    case 'directories':
      return ["-f -a '(__fish_complete_directories)'"];
    case 'anything':
      return ['-f'];
  }
}

function quote(text: string): string {
  return `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
}
