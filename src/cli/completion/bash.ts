import type { CommandGrammar, Grammar, OptionGrammar, Value } from './grammar.ts';

/** A script for bash 3.2 and newer. Words are those of the program: none holds what a shell could mistake. */
export function bashScript({ commands, options }: Grammar): string {
  const values = commands.flatMap((command) => command.options.flatMap((option) => optionPlace(command, option)));
  const starts = commands.map(({ name, options: own }) => `'${name} -'*) place='${namesOf(own)}' ;;`);
  const rests = commands.flatMap(({ name, argument }) =>
    argument === undefined ? [] : [`'${name} '*) place='${placeOf(argument)}' ;;`],
  );
  return `# bash completion of plugset; load it with: source <(plugset completion bash)

_plugset() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command='' place='' i
  # bash takes --option=value apart.
  if [[ $current == = ]]; then
    current=''
  elif [[ $before == = ]]; then
    before=\${COMP_WORDS[COMP_CWORD - 2]}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ \${COMP_WORDS[i]} != -* ]]; then
      command=\${COMP_WORDS[i]}
      break
    fi
  done
  case "$command $before" in
    ${values.join('\n    ')}
  esac
  [[ -n $place ]] || case "$command $current" in
    ' -'*) place='${namesOf(options)}' ;;
    ' '*) place='${commands.map(({ name }) => name).join(' ')}' ;;
    ${starts.join('\n    ')}
    ${rests.join('\n    ')}
  esac
  # Nothing that is completed here has a space in it, but for paths, which are divided at line ends alone.
  # shellcheck disable=SC2207
  case $place in
    @files | @directories)
      local IFS=$'\\n' action=-f
      [[ $place == @files ]] || action=-d
      compopt -o filenames 2>/dev/null
      COMPREPLY=($(compgen $action -- "$current"))
      ;;
    @workspaces) COMPREPLY=($(compgen -W "$(_plugset_workspaces)" -- "$current")) ;;
    @anything) COMPREPLY=() ;;
    *) COMPREPLY=($(compgen -W "$place" -- "$current")) ;;
  esac
}

# Asks the store that the line names, or the environment.
_plugset_workspaces() {
  local -a given=()
  local i
  for ((i = 1; i < COMP_CWORD - 1; i++)); do
    case \${COMP_WORDS[i]} in
      --config | --files | --state-dir | -n | --namespace)
        given+=("\${COMP_WORDS[i]}" "\${COMP_WORDS[i + 1]/#\\~\\//$HOME/}")
        ;;
    esac
  done
  "\${COMP_WORDS[0]}" status -o name "\${given[@]}" 2>/dev/null
}

complete -F _plugset plugset
`;
}

function namesOf(options: readonly OptionGrammar[]): string {
  return options.flatMap(({ names }) => names).join(' ');
}

function optionPlace({ name }: CommandGrammar, { names, value }: OptionGrammar): readonly string[] {
  if (value === undefined) return [];
  return [`${names.map((option) => `'${name} ${option}'`).join(' | ')}) place='${placeOf(value)}' ;;`];
}

function placeOf(value: Value): string {
  return value.kind === 'words' ? value.words.join(' ') : `@${value.kind}`;
}
