import { Command } from 'commander';

import { allProblems, type ParsedManifest } from '../adapters/files/parse-workspace-file.ts';
import { gatherSettings } from '../config.ts';
import { settingOptions } from '../config/options.ts';
import type { Settings } from '../config/settings.ts';
import { ReconcileError } from '../domain/errors.ts';
import { printable } from '../domain/text.ts';
import type { CliContext, Ends, ExitCode, SourceGrammar } from './context.ts';
import { readDeclarations, type DeclarationFile } from './declarations.ts';
import { formatDocument, outputOption, type Format } from './output.ts';

interface ValidateOptions {
  readonly output: Format;
}

export function validateCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('validate')
    .summary('check files of declarations, for a commit check')
    .description(
      'Checks files of workspaces without a store, a target or a network: YAML, every field, the form of sources, and\n' +
        'that no workspace is declared twice. Prints one line for each problem: file:line:column: what is wrong.',
    )
    .argument('<FILE|DIR...>', 'files; directories with all their .yaml and .yml files; - for standard input')
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (paths: string[], options: ValidateOptions, self: Command) =>
      ends(await validate(context, paths, options, gatherSettings(self.opts()).settings)),
    );
  for (const option of settingOptions('rules')) command.addOption(option);
  return command;
}

const HELP = `
Examples:
  plugset validate workspaces/
  plugset validate $(git diff --cached --name-only --diff-filter=d -- '*.yaml')

Exit codes: 0 no problem, 1 at least one.`;

async function validate(
  context: CliContext,
  paths: readonly string[],
  { output }: ValidateOptions,
  { sources: { allowUnpinned } }: Settings,
): Promise<ExitCode> {
  const files = await readDeclarations(context, paths);
  const grammar = await context.openGrammar(allowUnpinned);
  const problems = findProblems(files, grammar);
  const workspaces = files.reduce((sum, file) => sum + file.parsed.documents.length, 0);
  const summary = `${count(files.length, 'file')}, ${count(workspaces, 'workspace')}, ${count(problems.length, 'problem')}`;
  if (output === 'json' || output === 'yaml') {
    context.stdout.write(formatDocument({ files: files.length, workspaces, problems }, output));
  } else {
    context.stdout.write(problems.map((problem) => `${printable(problem)}\n`).join(''));
    (problems.length === 0 ? context.stdout : context.stderr).write(`${summary}\n`);
  }
  return problems.length === 0 ? 0 : 1;
}

/** What is wrong with files and between them: `path:line:column: what`, in the order of the files. */
export function findProblems(files: readonly DeclarationFile[], grammar: SourceGrammar): readonly string[] {
  const firstOrigins = new Map<string, string>();
  return files.flatMap(({ parsed }) => [
    ...allProblems(parsed),
    ...parsed.documents.flatMap((document) => {
      const { key, origin } = document;
      const first = firstOrigins.get(key);
      if (first === undefined) firstOrigins.set(key, origin);
      return [
        ...(first === undefined ? [] : [`${origin}:1: workspace ${key} is declared already in ${first}`]),
        ...(document.kind === 'manifest' ? sourceProblems(document, grammar) : []),
      ];
    }),
  ]);
}

/** Whether a place is allowed or exists is for the daemon to say: this machine need not be the one that it runs on. */
function sourceProblems(
  { manifest, pluginOrigins, origin }: ParsedManifest,
  grammar: SourceGrammar,
): readonly string[] {
  return manifest.spec.plugins.flatMap(({ name, source }, index) => {
    const problem = sourceProblem(source, grammar);
    return problem === undefined ? [] : [`${pluginOrigins[index] ?? origin}:1: plugin ${name}: ${problem}`];
  });
}

function sourceProblem(source: string, grammar: SourceGrammar): string | undefined {
  try {
    grammar.parse(source);
    return undefined;
  } catch (error) {
    if (error instanceof ReconcileError) return error.message;
    throw error;
  }
}

function count(amount: number, noun: string): string {
  return `${amount === 0 ? 'no' : amount} ${noun}${amount === 1 ? '' : 's'}`;
}
