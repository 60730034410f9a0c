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
import { importCommand } from './import.ts';
import { manifestsCommand } from './manifests.ts';
import { onceCommand } from './once.ts';
import { pauseCommand, resumeCommand } from './pause.ts';
import { planCommand } from './plan.ts';
import { reconcileCommand } from './reconcile.ts';
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
  const program = new Command('plugset')
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
  for (const create of [runCommand, onceCommand, reconcileCommand, takeoverCommand, approveCommand])
    program.addCommand(create(context, ends));
  for (const create of [pauseCommand, resumeCommand]) program.addCommand(create(context));
  program.commandsGroup('Other:').helpCommand('help [command]', 'explain a command');
  program.addCommand(doctorCommand(context, ends));
  program.addCommand(hostkeyCommand(context, ends));
  program.addCommand(configCommand(context));
  program.addCommand(manifestsCommand(context));
  program.addCommand(completionCommand(context, () => program));
  program.addCommand(versionCommand(context));
  for (const command of [program, ...program.commands]) configure(command, context);
  return program;
}

const HELP = `
A workspace is one running agent environment: a Docker container, a directory, or an external machine. It is declared
in a Postgres (DATABASE_URL or --database) or in YAML files (--files or PLUGSET_FILES).

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
function configure(command: Command, { stdout, stderr }: CliContext): void {
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
      `Run ${command.name() === 'plugset' ? 'plugset' : `plugset ${command.name()}`} --help for what it takes.`,
    );
}
