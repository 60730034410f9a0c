import { Command } from 'commander';

import { gatherSettings, type Gathered } from '../config.ts';
import { settingOptions } from '../config/options.ts';
import { definedOnly } from '../domain/defined-only.ts';
import { profilesWith } from '../domain/profile.ts';
import { countOf, printable } from '../domain/text.ts';
import { DEFAULT_POLICY } from '../domain/workspace.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import {
  enginesAreKnown,
  findProblems,
  hostsAreAllowed,
  overruledIn,
  runtimesAreKnown,
  sourcesAreReadable,
  targetsAreApart,
} from './declaration-rules.ts';
import { readDeclarations } from './declarations.ts';
import { printWarning } from './errors.ts';
import { formatDocument, outputOption, type Format } from './output.ts';

interface ValidateOptions {
  readonly output: Format;
}

export function validateCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('validate')
    .summary('check files of declarations, for a commit check')
    .description(
      'Checks files of workspaces without a store, a target or a network: YAML, every field, the form of sources, that\n' +
        'runtimes are known, and that nothing is declared twice. One line for each problem: file:line:column: what is wrong.',
    )
    .argument('<FILE|DIR...>', 'files; directories with all their .yaml and .yml files; - for standard input')
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (paths: string[], options: ValidateOptions, self: Command) =>
      // Opens no store: with one named, nobody asks what the DATABASE_URL of this machine is there for.
      ends(await validate(context, paths, options, gatherSettings({ ...self.opts(), files: '.' }))),
    );
  for (const option of settingOptions('rules')) command.addOption(option);
  return command;
}

const HELP = `
Examples:
  plugset validate workspaces/
  plugset validate workspaces/ --config plugset.yaml   with the runtimes, engines, hosts, policy of the daemon
  plugset validate $(git diff --cached --name-only --diff-filter=d -- '*.yaml')

Exit codes: 0 no problem, 1 at least one.`;

async function validate(
  context: CliContext,
  paths: readonly string[],
  { output }: ValidateOptions,
  { settings: { sources, profiles, targets, policy, policyLocked }, file }: Gathered,
): Promise<ExitCode> {
  const files = await readDeclarations(context, paths);
  const grammar = await context.openGrammar(sources.allowUnpinned);
  const problems = findProblems(files, [
    sourcesAreReadable(grammar),
    runtimesAreKnown(profilesWith(profiles)),
    targetsAreApart(),
    // Without a file the engines are those of this machine, which say nothing of the daemon's, and no host is allowed.
    ...(file === undefined
      ? []
      : [
          enginesAreKnown(targets.docker.engines.map(({ name }) => name)),
          hostsAreAllowed(targets.ssh.filter((entry) => entry.for === 'workspaces')),
        ]),
  ]);
  for (const text of overruledIn(files, { ...DEFAULT_POLICY, ...definedOnly(policy) }, policyLocked))
    printWarning(context, text);
  const workspaces = files.reduce((sum, { parsed }) => sum + parsed.documents.length, 0);
  const summary = [
    countOf(files.length, 'file'),
    countOf(workspaces, 'workspace'),
    problems.length === 0 ? 'no problems' : countOf(problems.length, 'problem'),
  ].join(', ');
  if (output === 'json' || output === 'yaml') {
    context.stdout.write(formatDocument({ files: files.length, workspaces, problems }, output));
  } else {
    context.stdout.write(problems.map((problem) => `${printable(problem)}\n`).join(''));
    (problems.length === 0 ? context.stdout : context.stderr).write(`${summary}\n`);
  }
  return problems.length === 0 ? 0 : 1;
}
