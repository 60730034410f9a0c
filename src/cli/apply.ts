import { Command } from 'commander';

import { workspaceKey, type WorkspaceKey } from '../domain/name.ts';
import { printable } from '../domain/text.ts';
import type { WorkspaceManifest } from '../domain/workspace.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import { CliError, type CliContext, type Ends, type ExitCode } from './context.ts';
import { readDeclarations, type DeclarationFile } from './declarations.ts';
import { addStoreOptions, withStore } from './session.ts';
import { findProblems, sourcesAreReadable } from './declaration-rules.ts';
import { namespaceOption } from './workspaces.ts';

interface ApplyOptions {
  readonly filename: readonly string[];
  readonly namespace?: string;
}

export function applyCommand(context: CliContext, ends: Ends): Command {
  const command = new Command('apply')
    .summary('write workspaces into the store')
    .description(
      'Writes declarations into the store, whole workspaces at a time; a running daemon takes them up at once.\n' +
        'Everything is checked first: with one problem in one file, nothing is written. What `plugset status -o yaml` prints\n' +
        'can be applied as it is: its status is passed over. A database without the schema plugset gets it.',
    )
    .requiredOption('-f, --filename <path...>', 'YAML or JSON files, directories, or - for standard input')
    .addOption(namespaceOption('namespace of declarations that name none (default: default)'))
    .addHelpText('after', HELP)
    .action(async (options: ApplyOptions, self: Command) => ends(await apply(context, self, options)));
  return addStoreOptions(command);
}

const HELP = `
Examples:
  plugset apply -f alice.yaml
  plugset apply -f workspaces/ -f more.yaml
  plugset status alice -o yaml | sed s/v4.1.0/v4.2.0/ | plugset apply -f -
  cat <<'END' | plugset apply -f -
  apiVersion: plugset.dev/v1alpha1
  kind: Workspace
  metadata: {name: alice}
  spec:
    runtime: claude-code
    target: {docker: {container: ws-alice}}
    plugins:
      - {name: superpowers, source: 'github://obra/superpowers#v4.1.0'}
  END

Exit codes: 0 everything is in the store, 1 something is not.`;

async function apply(context: CliContext, command: Command, options: ApplyOptions): Promise<ExitCode> {
  const files = await readDeclarations(context, options.filename, { takesPrinted: true });
  // Whether a source may follow a default branch, and which runtimes there are, is the daemon's say.
  const problems = findProblems(files, [sourcesAreReadable(await context.openGrammar(true))]).map(printable);
  if (problems.length > 0) throw new CliError(`nothing was written, because of\n  ${problems.join('\n  ')}`);
  const manifests = manifestsOf(files, options.namespace);
  return withStore(context, command, (store) => applyAll(context, store, manifests), 'author');
}

async function applyAll(
  context: CliContext,
  store: WorkspaceStore,
  manifests: readonly WorkspaceManifest[],
): Promise<ExitCode> {
  for (const manifest of manifests) {
    const outcome = await store.apply(manifest, context.signal);
    context.stdout.write(`workspace ${keyOfManifest(manifest)} ${outcome}\n`);
  }
  return 0;
}

function manifestsOf(files: readonly DeclarationFile[], namespace: string | undefined): readonly WorkspaceManifest[] {
  const manifests = files.flatMap(({ parsed }) =>
    parsed.documents.flatMap((document) =>
      document.kind === 'manifest' ? [inNamespace(document.manifest, namespace)] : [],
    ),
  );
  if (manifests.length === 0)
    throw new CliError(`no workspace is declared in ${files.map(({ path }) => path).join(', ')}`);
  return manifests;
}

function inNamespace(manifest: WorkspaceManifest, namespace: string | undefined): WorkspaceManifest {
  if (namespace === undefined || manifest.metadata.namespace !== undefined) return manifest;
  return { ...manifest, metadata: { ...manifest.metadata, namespace } };
}

function keyOfManifest({ metadata }: WorkspaceManifest): WorkspaceKey {
  return workspaceKey(metadata.namespace ?? 'default', metadata.name);
}
