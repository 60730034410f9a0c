import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { runLoader, type Files } from './loader-model.ts';

/** A start of a runtime whose config directory is `root`: its loader comes by. */
export async function startRuntime(root: string): Promise<void> {
  const files = await readTree(root);
  const before = new Map(files);
  runLoader(files, root);
  await mkdir(join(root, '.claude'), { recursive: true });
  for (const [path, content] of files) {
    if (before.get(path) === content) continue;
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
    if (path.endsWith('.sh')) await chmod(join(root, path), 0o755);
  }
}

/** Every file but plugins and what plugset keeps for itself. */
export async function plainTree(root: string): Promise<Readonly<Record<string, string>>> {
  return Object.fromEntries([...(await readTree(root))].filter(([path]) => !/^(plugins|\.plugset)\//.test(path)));
}

export async function writeTree(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  await rm(root, { recursive: true, force: true });
  await mkdir(root, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), content);
  }
}

async function readTree(root: string): Promise<Files> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files: Files = new Map();
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files.set(path.slice(root.length + 1), await readFile(path, 'utf8'));
  }
  return files;
}
