import { Command, CommanderError } from 'commander';

import { isAbort } from '../ports/abort.ts';
import { applyCommand } from './apply.ts';
import { approveCommand } from './approve.ts';
import { completionCommand } from './completion.ts';
import { configCommand } from './config.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { deleteCommand } from './delete.ts';
import { doctorCommand } from './doctor.ts';
import { hostkeyCommand } from './hostkey.ts';
import { printError } from './errors.ts';
import { explainCommand } from './explain.ts';
import { assumeNamespace } from './home-namespace.ts';
import { importCommand } from './import.ts';
import { manifestsCommand } from './manifests.ts';
import { onceCommand } from './once.ts';
import { pauseCommand, resumeCommand } from './pause.ts';
import { planCommand } from './plan.ts';
import { profilesCommand } from './profiles.ts';
import { reconcileCommand } from './reconcile.ts';
import { restartCommand } from './restart.ts';
import { runCommand } from './run.ts';
import { statusCommand } from './status.ts';
import { takeoverCommand } from './takeover.ts';
import { validateCommand } from './validate.ts';
import { versionCommand } from './version.ts';

/** Runs one command line (without `node` and the script) and answers its exit code. Never throws. */
export async function runCli(argv: readonly string[], context: CliContext): Promise<ExitCode> {
  let code: ExitCode = 0;
  const program = createProgram(context, (ended) => {
    code = ended;
  });
  try {
    await program.parseAsync(argv, { from: 'user' });
    return code;
  } catch (error) {
    // Commander has said what was wrong with the command line, or has printed the help that was asked for.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 1;
    // The person ended the command: that needs no explanation.
    if (!isAbort(error, context.signal)) printError(context, error);
    return 1;
  }
}

function createProgram(context: CliContext, ends: Ends): Command {
  const program = new Command(context.isKubectlPlugin === true ? 'kubectl plugset' : 'plugset')
    .description(
      'Keeps the plugins of agent workspaces as declared: looks at what is there, works out the difference,\n' +
        'and installs, replaces, restores and removes until both are equal, over and over.',
    )
    .version(context.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'explain a command')
    .addHelpText('after', HELP)
    .showSuggestionAfterError();
  program.commandsGroup('Declare:');
  for (const create of [applyCommand, deleteCommand, validateCommand]) program.addCommand(create(context, ends));
  program.commandsGroup('Look:');
  for (const create of [statusCommand, explainCommand, planCommand, importCommand])
    program.addCommand(create(context, ends));
  program.commandsGroup('Converge:');
  for (const create of [runCommand, onceCommand, reconcileCommand, restartCommand, takeoverCommand, approveCommand])
    program.addCommand(create(context, ends));
  for (const create of [pauseCommand, resumeCommand]) program.addCommand(create(context));
  program.commandsGroup('Other:').helpCommand('help [command]', 'explain a command');
  program.addCommand(doctorCommand(context, ends));
  program.addCommand(hostkeyCommand(context, ends));
  program.addCommand(configCommand(context));
  program.addCommand(profilesCommand(context));
  program.addCommand(manifestsCommand(context));
  program.addCommand(completionCommand(context, () => program));
  program.addCommand(versionCommand(context));
  for (const command of [program, ...program.commands]) configure(command, context);
  return program.hook('preAction', (_, command) => assumeNamespace(context, command));
}

const HELP = `
A workspace is one running agent environment: a container, a pod, an EC2 instance, a host over SSH, a directory, or a
machine that fetches for itself. It is declared in a Postgres (DATABASE_URL or --database), in YAML files (--files or
PLUGSET_FILES), or as a custom resource in a Kubernetes cluster (--kubernetes or PLUGSET_KUBERNETES; as \`kubectl plugset\`
always).

Start here:
  export PLUGSET_FILES=workspaces/  the directory with the declarations
  plugset validate workspaces/      is anything wrong with them?
  plugset plan                      what would be changed, and on whose word
  plugset run                       keep everything as declared, until stopped
  plugset status -w                 in a second terminal: watch it converge
  plugset explain alice             why is it in this state, and what happens next

Exit codes: 0 as asked, 1 failed or not as declared, 2 (plan only) something would change,
130 or 143 interrupted by SIGINT or SIGTERM (a daemon that drained ends with 0).
Colours and progress appear on a terminal only, and not with NO_COLOR.`;

/** Settings that commander does not hand down to commands which were made elsewhere. */
function configure(command: Command, { stdout, stderr, isKubectlPlugin }: CliContext): void {
  const hasCluster = command.options.some((option) => option.attributeName() === 'kubernetes');
  if (isKubectlPlugin === true && hasCluster) command.setOptionValue('kubernetes', true);
  command
    .exitOverride()
    .configureHelp({ showGlobalOptions: false })
    .configureOutput({
      writeOut: (text) => stdout.write(text),
      writeErr: (text) => stderr.write(text),
      getOutHelpWidth: () => stdout.columns,
      getErrHelpWidth: () => stderr.columns,
      getOutHasColors: () => stdout.hasColor,
      getErrHasColors: () => stderr.hasColor,
    })
    .showHelpAfterError(
      `Run ${command.parent === null ? command.name() : `${command.parent.name()} ${command.name()}`} --help for what it takes.`,
    );
}
