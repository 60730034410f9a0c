import { Command } from 'commander';

import { allProblems } from '../adapters/files/parse-workspace-file.ts';
import { parseSourceRef } from '../domain/source.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import { readDeclarations, type DeclarationFile } from './declarations.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { printable } from './style.ts';

export function validateCommand(context: CliContext, ends: Ends): Command {
  return new Command('validate')
    .summary('check files of declarations, for a commit check')
    .description(
      'Checks files of workspaces without a store, a target or a network: YAML, every field, the form of sources, and\n' +
        'that no workspace is declared twice. Prints one line for each problem: file:line:column: what is wrong.',
    )
    .argument('<FILE|DIR...>', 'files; directories with all their .yaml and .yml files; - for standard input')
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (paths: string[], options: { output: Format }) =>
      ends(await validate(context, paths, options.output)),
    );
}

const HELP = `
Examples:
  plugset validate workspaces/
  plugset validate $(git diff --cached --name-only --diff-filter=d -- '*.yaml')

Exit codes: 0 no problem, 1 at least one.`;

async function validate(context: CliContext, paths: readonly string[], output: Format): Promise<ExitCode> {
  const files = await readDeclarations(context, paths);
  const problems = findProblems(files);
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

/** Everything that is wrong, `path:line:column: what`, file by file. */
export function findProblems(files: readonly DeclarationFile[]): readonly string[] {
  const firstOrigins = new Map<string, string>();
  return files.flatMap(({ parsed }) => [
    ...allProblems(parsed),
    ...parsed.documents.flatMap((document) => {
      const first = firstOrigins.get(document.key);
      if (first === undefined) firstOrigins.set(document.key, document.origin);
      return [
        ...(first === undefined
          ? []
          : [`${document.origin}:1: workspace ${document.key} is declared already in ${first}`]),
        ...(document.kind === 'manifest' ? sourceProblems(document) : []),
      ];
    }),
  ]);
}

type Manifest = Extract<DeclarationFile['parsed']['documents'][number], { kind: 'manifest' }>;

/** Grammar only: which schemes there are, and whether one may be used, is for the daemon's options to say. */
function sourceProblems({ manifest, pluginOrigins, origin }: Manifest): readonly string[] {
  return manifest.spec.plugins.flatMap((plugin, index) => {
    if (parseSourceRef(plugin.source) !== undefined) return [];
    return [
      `${pluginOrigins[index] ?? origin}:1: plugin ${plugin.name}: source is neither scheme://spec nor the name of a local plugin`,
    ];
  });
}

function count(amount: number, noun: string): string {
  return `${amount === 0 ? 'no' : amount} ${noun}${amount === 1 ? '' : 's'}`;
}
