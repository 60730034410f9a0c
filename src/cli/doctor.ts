import { Command } from 'commander';

import type { Finding } from '../doctor.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { patiently } from './patience.ts';
import { addDaemonOptions } from './session.ts';
import { paintFor, type Color, type Paint } from './style.ts';
import { formatTable, type Row } from './table.ts';
import { keysFrom, namespaceOption } from './workspaces.ts';

interface DoctorOptions {
  readonly namespace?: string;
  readonly output: Format;
}

export function doctorCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('doctor')
    .summary('is everything there that plugset needs, and what is to be done')
    .description(
      'Looks at what plugset needs as it is configured: the store and who leads it, engines, roots, sources and their\n' +
        'credentials, git, the cache, versions, clocks. With a WORKSPACE it also goes the way to its target step by step (of\n' +
        'an EC2 instance from the credential to the login, with request ids) and looks deep at it, as a pass would.\n' +
        'It changes nothing and shows no secret; of a host that is met for the first time it shows the key that the daemon would\n' +
        'pin, and pins none. Run it as the user and with the options of the daemon.',
    )
    .argument('[WORKSPACE]', 'NAME or NAMESPACE/NAME: look at its target as well')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (name: string | undefined, options: DoctorOptions, self: Command) =>
      ends(await doctor(context, self, name, options)),
    );
  return addDaemonOptions(command);
}

const HELP = `
Results:
  ok    as it should be
  warn  plugset works, and somebody should know
  FAIL  plugset cannot do its work as it is configured

Examples:
  plugset doctor --config plugset.yaml
  plugset doctor alice                    the way to its target, config directory, tools, sources
  plugset doctor -o json | jq '.checks[] | select(.result != "ok")'

Exit codes: 0 nothing fails, 1 something does.`;

async function doctor(
  context: CliContext,
  command: Command,
  name: string | undefined,
  { namespace, output }: DoctorOptions,
): Promise<ExitCode> {
  const [workspace] = name === undefined ? [] : keysFrom([name], namespace);
  const what = (): string => (workspace === undefined ? 'what is configured' : `the way to ${workspace}`);
  const checks = await patiently(context, what, context.diagnose(command.opts(), workspace));
  const isWell = checks.every(({ result }) => result !== 'FAIL');
  context.stdout.write(
    output === 'json' || output === 'yaml'
      ? formatDocument({ kind: 'Diagnosis', ok: isWell, checks }, output)
      : formatFindings(checks, paintFor(context.stdout)),
  );
  return isWell ? 0 : 1;
}

const COLORS: Readonly<Record<Finding['result'], Color>> = { ok: 'green', warn: 'yellow', FAIL: 'red' };

function formatFindings(checks: readonly Finding[], paint: Paint): string {
  const rows = checks.flatMap(({ check, step, ms, result, seen, fix }, index): readonly Row[] => {
    const heading: readonly Row[] = step !== undefined && checks[index - 1]?.check !== check ? [[check, '', '']] : [];
    const name = step === undefined ? check : `- ${step}`;
    const row: Row = [name, { text: result, color: COLORS[result] }, ms === undefined ? seen : `${seen} (${ms} ms)`];
    const advice: readonly Row[] = fix === undefined ? [] : [['', '', { text: `-> ${fix}`, color: 'bold' }]];
    return [...heading, row, ...advice];
  });
  return formatTable(['CHECK', 'RESULT', 'SEEN, AND WHAT TO DO'], rows, paint);
}
