import { readFile, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';

import { splitWorkspaceKey, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceManifest } from '../../domain/workspace.ts';
import { removeDocuments, upsertDocument } from './edit-manifest.ts';
import { isMissing, refusedWrite } from './node-error.ts';
import type { Declared } from './read-snapshot.ts';
import { writeAtomically } from './write-atomically.ts';

/** Writes the manifest where its workspace is declared now, or to a file of its own named after it. */
export async function writeDeclaration(
  root: string,
  manifest: WorkspaceManifest,
  declared: Declared | undefined,
): Promise<void> {
  const path = declared?.realPaths[0] ?? join(root, fileName(keyOf(manifest)));
  await editFile(path, (text) => upsertDocument(relative(root, path), text, manifest));
}

/** Takes every document of the key out of its files; a file that then holds none goes. */
export async function removeDeclaration(root: string, key: WorkspaceKey, declared: Declared): Promise<void> {
  for (const path of declared.realPaths)
    await editFile(path, (text) => removeDocuments(relative(root, path), text, key));
}

function keyOf({ metadata }: WorkspaceManifest): WorkspaceKey {
  return workspaceKey(metadata.namespace ?? 'default', metadata.name);
}

function fileName(key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return namespace === 'default' ? `${name}.yaml` : `${namespace}/${name}.yaml`;
}

async function editFile(path: string, edit: (text: string) => string | undefined): Promise<void> {
  try {
    const before = await readIfThere(path);
    const after = edit(before?.text ?? '');
    if (after === undefined) await rm(path, { force: true });
    else
      await writeAtomically(path, after, { isDurable: true, ...(before === undefined ? {} : { mode: before.mode }) });
  } catch (error) {
    throw refusedWrite(path, error);
  }
}

async function readIfThere(path: string): Promise<{ readonly text: string; readonly mode: number } | undefined> {
  try {
    return { text: await readFile(path, 'utf8'), mode: (await stat(path)).mode & 0o777 };
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}
