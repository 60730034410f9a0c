import { Command, Option } from 'commander';
import { Document, isMap, isSeq } from 'yaml';

import type { App, LookResult, OnLook, Survey } from '../app.ts';
import { shortRevision } from '../domain/change-words.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { countOf, printable } from '../domain/text.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { printError } from './errors.ts';
import { formatDocument, listOf } from './output.ts';
import { resourceOf } from './resource.ts';
import { addEngineOptions, withApp } from './session.ts';
import { keysFrom, listKeys, namespaceOption, notFound, requireSome } from './workspaces.ts';

type SurveyedPlugin = Survey['plugins'][number];

interface ImportOptions {
  readonly namespace?: string;
  readonly all?: boolean;
  readonly output: 'yaml' | 'json';
}

export function importCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('import')
    .summary('print the declaration of what is installed now')
    .description(
      'Looks at declared workspaces and prints a Workspace for each that asks for just what is there: with the source from\n' +
        'the receipt where plugset installed it, and from a local registry (--registry) where that has the same files under\n' +
        'the same name. What has no known source is left as a comment to fill in. Changes nothing.',
    )
    .argument('[WORKSPACE...]', 'NAME or NAMESPACE/NAME')
    .addOption(namespaceOption('all of this namespace (with a bare NAME: where that is; default: default)'))
    .addOption(
      new Option('-o, --output <format>', 'how to print it; JSON has no comments')
        .choices(['yaml', 'json'])
        .default('yaml'),
    )
    .option('--all', 'every declared workspace; suspended and external ones, which nobody looks at, are passed over')
    .addHelpText('after', HELP)
    .action(async (names: string[], options: ImportOptions, self: Command) =>
      ends(await withApp(context, self, 'client', (app) => importAll(context, app, names, options))),
    );
  return addEngineOptions(command);
}

const HELP = `
Examples:
  plugset import alice > alice.yaml && plugset apply -f alice.yaml
  plugset import alice --registry /srv/plugins
  plugset import --all > fleet.yaml            a document for each; see what is to be filled in, then apply it

Never write to the file that declares the workspace: the shell empties it before plugset looks.

How to adopt a running fleet: declare each workspace with \`policy: {mode: Observe}\` and no plugins, import it,
commit what comes out, look at \`plugset plan\`, and set the mode to Apply. Equal directories are then adopted as
they are.

Exit codes: 0 printed, 1 a workspace is not declared or its target could not be looked at (the others are printed).`;

async function importAll(
  context: CliContext,
  app: App,
  names: readonly string[],
  options: ImportOptions,
): Promise<ExitCode> {
  const keys = await keysOf(context, app, names, options);
  const isNamed = names.length > 0;
  const progress = progressOf(context, keys.length);
  const results = new Map<WorkspaceKey, LookResult<Survey>>();
  await app.survey(keys, context.signal, (key, result) => {
    results.set(key, result);
    progress(key, result);
  });
  const isJson = options.output === 'json';
  const surveyed: Survey[] = [];
  let code: ExitCode = 0;
  for (const key of keys) {
    const result = results.get(key) ?? { kind: 'absent' };
    const about = keys.length === 1 ? '' : `${key}: `;
    if (result.kind === 'surveyed') {
      surveyed.push(result);
      if (!isJson) context.stdout.write(`${keys.length === 1 ? '' : '---\n'}${importedYaml(result)}`);
      for (const line of notes(result.plugins, isJson)) context.stderr.write(`${about}${printable(line)}\n`);
    } else if (result.kind === 'unseen' && !isNamed) {
      context.stderr.write(`${unseenText(key, result.why)}\n`);
    } else {
      printError(context, await problemWith(context, app, key, result));
      code = 1;
    }
  }
  const [only] = surveyed.map(importedData);
  if (isJson && keys.length > 1) context.stdout.write(formatDocument(listOf(surveyed.map(importedData)), 'json'));
  else if (isJson && only !== undefined) context.stdout.write(formatDocument(only, 'json'));
  return code;
}

async function keysOf(
  context: CliContext,
  app: App,
  names: readonly string[],
  { namespace, all }: ImportOptions,
): Promise<readonly WorkspaceKey[]> {
  if (names.length > 0 && all === true) throw new CliError('give names, or --all');
  if (names.length > 0) return keysFrom(names, namespace);
  if (namespace === undefined && all !== true)
    throw new CliError('which workspaces? Give their names, --namespace for all of one, or --all');
  const keys = await listKeys(app.store, namespace, context.signal);
  requireSome(keys, namespace);
  return keys;
}

async function problemWith(
  context: CliContext,
  app: App,
  key: WorkspaceKey,
  result: Exclude<LookResult<Survey>, Survey>,
): Promise<Error> {
  switch (result.kind) {
    case 'absent':
      return notFound(app.store, key, context.signal);
    case 'malformed':
      return new CliError(`the declaration of workspace ${key} cannot be used: ${result.problems.join('; ')}`);
    case 'unseen':
      return new CliError(unseenText(key, result.why));
    case 'failed':
      return result.error;
  }
}

function unseenText(key: WorkspaceKey, why: string): string {
  return `workspace ${key} is not looked at: ${why}`;
}

/** A line for each as it ends, for whoever waits before a terminal for many of them. */
function progressOf({ stderr }: CliContext, total: number): OnLook<Survey> {
  let done = 0;
  return (key, result) => {
    done += 1;
    if (!stderr.isTerminal || total === 1) return;
    const what = result.kind === 'surveyed' ? countOf(result.plugins.length, 'plugin') : 'not imported';
    stderr.write(`${done}/${total} ${key}: ${what}\n`);
  };
}

/** A manifest as people would write it. */
function importedData({ workspace, status, plugins }: Survey): object {
  const { apiVersion, kind, metadata, spec } = resourceOf({ kind: 'found', workspace, status }) as Record<
    string,
    object
  >;
  const { generation: _, annotations: __, deleting: ___, ...written } = metadata as Record<string, unknown>;
  const declared = new Map(workspace.plugins.map((plugin) => [plugin.name, plugin]));
  // What nobody can see on a target, and what was reviewed: with other content than that, it is refused rather than lost.
  const entries = knownOf(plugins).map(({ name, source }) => {
    const { digest, config } = declared.get(name) ?? {};
    return { name, source, digest, config };
  });
  return { apiVersion, kind, metadata: written, spec: { ...spec, plugins: entries } };
}

function knownOf(plugins: readonly SurveyedPlugin[]): readonly SurveyedPlugin[] {
  return plugins.filter((plugin) => plugin.source !== undefined);
}

/** With comments where somebody has to write. */
function importedYaml(survey: Survey): string {
  const { plugins } = survey;
  const known = knownOf(plugins);
  // Through JSON first: what is undefined is left out.
  const document = new Document(JSON.parse(JSON.stringify(importedData(survey))));
  const list = document.getIn(['spec', 'plugins'], true);
  if (isSeq(list)) {
    for (const [index, plugin] of known.entries()) {
      const item = list.items[index];
      if (isMap(item)) item.commentBefore = ` ${printable(remark(plugin))}`;
    }
  }
  const unknown = plugins.filter((plugin) => plugin.source === undefined);
  if (unknown.length > 0) document.comment = [UNKNOWN, ...unknown.map(openEntry)].join('\n');
  return document.toString({ lineWidth: 0 });
}

const UNKNOWN = ' Installed, and no source is known. Write one in and move the entry up to plugins:';

function openEntry(plugin: SurveyedPlugin): string {
  const note = remark(plugin);
  return `    - {name: ${plugin.name}, source: …}${note === '' ? '' : ` # ${printable(note)}`}`;
}

function remark({ version, revision, managed, edited, source, unlike }: SurveyedPlugin): string {
  return [
    version === undefined ? undefined : `version ${version}`,
    revision === undefined ? undefined : `at ${shortRevision(revision)}`,
    managed
      ? 'installed by plugset, as its receipt on the target says'
      : source === undefined
        ? undefined
        : 'equal to what the source holds',
    edited ? 'edited on the target since' : undefined,
    unlike === undefined
      ? undefined
      : `${unlike} has other files, so it would be NameTaken unless policy.adopt is Replace`,
  ]
    .filter((part) => part !== undefined)
    .join(', ');
}

function notes(plugins: readonly SurveyedPlugin[], isJson: boolean): readonly string[] {
  const unknown = plugins.filter((plugin) => plugin.source === undefined).map((plugin) => plugin.name);
  const what = isJson ? 'left out' : 'left as comments at the end';
  return unknown.length === 0 ? [] : [`no source is known of ${unknown.join(', ')}: ${what}`];
}
