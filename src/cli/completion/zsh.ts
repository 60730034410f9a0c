import type { CommandGrammar, Grammar, OptionGrammar, Value } from './grammar.ts';

/** A script for zsh 5 and newer, to be sourced or put into a directory of `fpath` as `_plugset`. */
export function zshScript({ commands, options }: Grammar): string {
  const listed = commands.map(({ name, summary }) => quote(`${name}:${summary}`));
  return `#compdef plugset
# zsh completion of plugset; load it with: source <(plugset completion zsh)

_plugset() {
  local curcontext=$curcontext state line ret=1
  local -A opt_args
  _arguments -C ${specsOf(options).join(' ')} '1: :_plugset_commands' '*:: :->rest' && ret=0
  [[ $state == rest ]] || return ret
  case $words[1] in
${commands.map(commandCase).join('\n')}
  esac
}

_plugset_commands() {
  local -a commands=(
    ${listed.join('\n    ')}
  )
  _describe -t commands command commands
}

# Asks the store that the line names, or the environment.
_plugset_workspaces() {
  local -a given names
  local i
  for ((i = 2; i < CURRENT - 1; i++)); do
    case $words[i] in
      --config | --files | --state-dir | -n | --namespace) given+=($words[i] \${(Q)~words[i + 1]}) ;;
    esac
  done
  names=(\${(f)"$(plugset status -o name $given 2>/dev/null)"})
  compadd -a names
}

if [[ $funcstack[1] == _plugset ]]; then
  _plugset "$@"
else
  compdef _plugset plugset
fi
`;
}

function commandCase({ name, argument, options }: CommandGrammar): string {
  const rest = argument === undefined ? [] : [quote(`*: :${actionOf(argument)}`)];
  return `    ${name}) _arguments -s ${[...specsOf(options), ...rest].join(' ')} && ret=0 ;;`;
}

/** Every option may be repeated: some mean something by it, and of the others the last one counts. */
function specsOf(options: readonly OptionGrammar[]): readonly string[] {
  return options.flatMap(({ names, summary, value }) =>
    names.map((name) => {
      const text = summary.replaceAll(/[[\]:\\]/g, String.raw`\$&`);
      return quote(`*${name}[${text}]${value === undefined ? '' : `: :${actionOf(value)}`}`);
    }),
  );
}

function actionOf(value: Value): string {
  switch (value.kind) {
    case 'words':
      return `(${value.words.join(' ')})`;
    case 'workspaces':
      return '_plugset_workspaces';
    case 'files':
      return '_files';
    case 'directories':
      return '_files -/';
    case 'anything':
      return ' ';
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}
