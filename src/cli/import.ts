import { Command } from 'commander';
import { Document, isMap, isSeq } from 'yaml';

import type { App, SurveyResult } from '../app.ts';
import { shortRevision } from '../domain/change-words.ts';
import { REASONS } from '../domain/reason.ts';
import { printable } from '../domain/text.ts';
import { CliError, type CliContext } from './context.ts';
import { resourceOf } from './resource.ts';
import { addEngineOptions, withApp } from './session.ts';
import { keysFrom, namespaceOption, notFound } from './workspaces.ts';

type Surveyed = Extract<SurveyResult, { kind: 'surveyed' }>;
type SurveyedPlugin = Surveyed['plugins'][number];

interface ImportOptions {
  readonly namespace?: string;
}

export function importCommand(context: CliContext): Command {
  const command = new Command('import')
    .summary('print the declaration of what is installed now')
    .description(
      'Looks at a declared workspace and prints a Workspace that asks for just what is there: with the source from the\n' +
        'receipt where plugset installed it, and from a local registry (--registry) where that has the same files under the\n' +
        'same name. What has no known source is left as a comment to fill in. Changes nothing.',
    )
    .argument('<WORKSPACE>', 'NAME or NAMESPACE/NAME')
    .addOption(namespaceOption('namespace of a bare NAME (default: default)'))
    .addHelpText('after', HELP)
    .action((name: string, options: ImportOptions, self: Command) =>
      withApp(context, self, 'client', (app) => print(context, app, name, options)),
    );
  return addEngineOptions(command);
}

const HELP = `
Examples:
  plugset import alice > alice.yaml && plugset apply -f alice.yaml
  plugset import alice --registry /srv/plugins

Never write to the file that declares the workspace: the shell empties it before plugset looks.

How to adopt a running fleet: declare each workspace with \`policy: {mode: Observe}\` and no plugins, import it,
commit what comes out, look at \`plugset plan\`, and set the mode to Apply. Equal directories are then adopted as
they are.

Exit codes: 0 printed, 1 the workspace is not declared or its target could not be looked at.`;

async function print(context: CliContext, app: App, name: string, { namespace }: ImportOptions): Promise<void> {
  const [key] = keysFrom([name], namespace);
  if (key === undefined) throw new CliError('which workspace?');
  const result = await app.survey(key, context.signal);
  switch (result.kind) {
    case 'absent':
      throw await notFound(app.store, key, context.signal);
    case 'malformed':
      throw new CliError(`the declaration of workspace ${key} cannot be used: ${result.problems.join('; ')}`);
    case 'found':
      throw new CliError(
        `workspace ${key} is not looked at: ${REASONS[result.workspace.suspend ? 'Suspended' : 'Pull']}`,
      );
    case 'surveyed':
      context.stdout.write(importedYaml(result));
      for (const line of notes(result.plugins)) context.stderr.write(`${printable(line)}\n`);
  }
}

/** A manifest as people would write it, comments where somebody has to. */
function importedYaml({ workspace, status, plugins }: Surveyed): string {
  const { apiVersion, kind, metadata, spec } = resourceOf({ kind: 'found', workspace, status }) as Record<
    string,
    object
  >;
  const { generation: _, annotations: __, deleting: ___, ...written } = metadata as Record<string, unknown>;
  const known = plugins.filter((plugin) => plugin.source !== undefined);
  const declared = new Map(workspace.plugins.map((plugin) => [plugin.name, plugin]));
  // What nobody can see on a target, and what was reviewed: with other content than that, it is refused rather than lost.
  const entries = known.map(({ name, source }) => {
    const { digest, config } = declared.get(name) ?? {};
    return { name, source, digest, config };
  });
  const document = new Document(
    JSON.parse(
      JSON.stringify({
        apiVersion,
        kind,
        metadata: written,
        spec: { ...spec, plugins: entries },
      }),
    ),
  );
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

function remark({ version, revision, managed, edited, source }: SurveyedPlugin): string {
  return [
    version === undefined ? undefined : `version ${version}`,
    revision === undefined ? undefined : `at ${shortRevision(revision)}`,
    managed
      ? 'installed by plugset, as its receipt on the target says'
      : source === undefined
        ? undefined
        : 'equal to what the source holds',
    edited ? 'edited on the target since' : undefined,
  ]
    .filter((part) => part !== undefined)
    .join(', ');
}

function notes(plugins: readonly SurveyedPlugin[]): readonly string[] {
  const unknown = plugins.filter((plugin) => plugin.source === undefined).map((plugin) => plugin.name);
  return unknown.length === 0 ? [] : [`no source is known of ${unknown.join(', ')}: left as comments at the end`];
}
