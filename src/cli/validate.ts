import { Command } from 'commander';

import { gatherSettings, type Config, type Gathered } from '../config.ts';
import { settingOptions } from '../config/options.ts';
import { definedOnly } from '../domain/defined-only.ts';
import { splitWorkspaceKey } from '../domain/name.ts';
import { profilesWith } from '../domain/profile.ts';
import { countOf, printable } from '../domain/text.ts';
import { API_VERSION, DEFAULT_POLICY, overruledPolicy, type Workspace } from '../domain/workspace.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { CliContext, Ends, ExitCode } from './context.ts';
import {
  enginesAreKnown,
  findProblems,
  hostsAreAllowed,
  overruledIn,
  runtimesAreKnown,
  sourcesAreReadable,
  targetsAreApart,
  type Rule,
} from './declaration-rules.ts';
import { readDeclarations } from './declarations.ts';
import { printWarning } from './errors.ts';
import { formatDocument, outputOption, type Format } from './output.ts';
import { withOpened } from './session.ts';
import {
  allNamespacesOption,
  keyOf,
  listKeys,
  namespaceOption,
  readWorkspaces,
  requireSome,
  type Declared,
} from './workspaces.ts';

interface ValidateOptions {
  readonly namespace?: string;
  readonly output: Format;
}

export function validateCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('validate')
    .summary('check declarations: files, for a commit check, or what a cluster has')
    .description(
      'Checks files of workspaces without a store, a target or a network: YAML, every field, the form of sources, that\n' +
        'runtimes are known, and that nothing is declared twice. One line for each problem: file:line:column: what is wrong.\n' +
        'Without files it checks what the store has: the custom resources of a cluster, say.',
    )
    .argument('[FILE|DIR...]', 'files; directories with all their .yaml and .yml files; - for standard input')
    .addOption(namespaceOption('of the store, only this namespace (default in a cluster: that of the context)'))
    .addOption(allNamespacesOption())
    .addOption(outputOption())
    .addHelpText('after', HELP)
    .action(async (paths: string[], options: ValidateOptions, self: Command) =>
      ends(
        paths.length === 0
          ? await withOpened(context, self, ({ store }, config) => validateStore(context, store, config, options))
          : // Opens no store: with one named, nobody asks what the DATABASE_URL of this machine is there for.
            await validate(context, paths, options, gatherSettings({ ...self.opts(), files: '.' })),
      ),
    );
  for (const option of settingOptions('rules')) command.addOption(option);
  return command;
}

const HELP = `
Examples:
  plugset validate workspaces/
  plugset validate workspaces/ --config plugset.yaml   with the runtimes, engines, hosts, policy of the daemon
  kubectl plugset validate -A                          what every workspace of the cluster says
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
  return report(context, problems, { files: files.length, workspaces }, output);
}

async function validateStore(
  context: CliContext,
  store: WorkspaceStore,
  { profiles, engines, sshHosts, allowUnpinned }: Config,
  { namespace, output }: ValidateOptions,
): Promise<ExitCode> {
  const keys = await listKeys(store, namespace, context.signal);
  requireSome(keys, namespace);
  const declared = await readWorkspaces(store, keys, context.signal);
  const grammar = await context.openGrammar(allowUnpinned);
  const rules: readonly Rule[] = [
    sourcesAreReadable(grammar),
    runtimesAreKnown(profiles),
    targetsAreApart(),
    enginesAreKnown(engines.map(({ name }) => name)),
    hostsAreAllowed(sshHosts),
  ];
  const problems = declared.flatMap((one) => problemsOf(one, rules));
  for (const one of declared) {
    const overruled = one.kind === 'found' ? overruledPolicy(one.workspace) : [];
    for (const text of overruled) printWarning(context, `workspace ${keyOf(one)}: ${text}`);
  }
  return report(context, problems, { workspaces: declared.length }, output);
}

function problemsOf(declared: Declared, rules: readonly Rule[]): readonly string[] {
  if (declared.kind === 'malformed') return declared.problems;
  const { workspace } = declared;
  return workspace.deleting ? [] : rules.flatMap((rule) => rule(asParsed(workspace)));
}

/** As rules know it of files; it has no lines. */
function asParsed({ key, runtime, target, plugins, ownPolicy: policy }: Workspace): Parameters<Rule>[0] {
  const { namespace, name } = splitWorkspaceKey(key);
  const origin = `workspace ${key}`;
  const spec = { runtime, target, plugins: [...plugins], policy };
  const manifest = { apiVersion: API_VERSION, kind: 'Workspace', metadata: { namespace, name }, spec } as const;
  return { kind: 'manifest', key, manifest, origin, pluginOrigins: [], runtimeAt: origin, targetAt: origin };
}

interface Checked {
  readonly files?: number;
  readonly workspaces: number;
}

function report(context: CliContext, problems: readonly string[], checked: Checked, output: Format): ExitCode {
  const { files, workspaces } = checked;
  const summary = [
    ...(files === undefined ? [] : [countOf(files, 'file')]),
    countOf(workspaces, 'workspace'),
    problems.length === 0 ? 'no problems' : countOf(problems.length, 'problem'),
  ].join(', ');
  if (output === 'json' || output === 'yaml') {
    context.stdout.write(formatDocument({ ...checked, problems }, output));
  } else {
    context.stdout.write(problems.map((problem) => `${printable(problem)}\n`).join(''));
    (problems.length === 0 ? context.stdout : context.stderr).write(`${summary}\n`);
  }
  return problems.length === 0 ? 0 : 1;
}
