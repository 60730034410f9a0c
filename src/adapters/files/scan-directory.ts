import { readdir, realpath, stat } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';

import { compareBytes, sha256, type Digest } from '../../domain/digest.ts';
import { isMissing } from './node-error.ts';

export interface ScannedFile {
  /** Below the root, as a person would name it. */
  readonly path: string;
  readonly realPath: string;
  readonly size: number;
  readonly modifiedAtMs: number;
  /** Differs when the content may differ. */
  readonly signature: string;
}

/** What is in the directory, contents not read. */
export interface DirectoryScan {
  /** The directory itself, behind its links: differs after a swap or when it was made anew. */
  readonly identity: string;
  readonly files: readonly ScannedFile[];
  /** Entries that count as declarations and cannot be read as such. */
  readonly problems: readonly string[];
  /** Every real directory whose entries matter. */
  readonly directories: readonly string[];
  /** Differs when anything here may differ. */
  readonly signature: Digest;
}

/**
 * Lists every `*.yaml` and `*.yml` below `root`, each real file once. Names that begin with a dot, `#` or `~` are
 * editors' and git's own, or the inside of a ConfigMap (`..data`), which shows through its links. Links are
 * followed inside the real root (git-sync and ConfigMaps are made of them) and reported outside of it.
 * Throws what the file system throws, also when something vanished under its hands: half a list is none.
 */
export async function scanDirectory(root: string): Promise<DirectoryScan> {
  const walk: Walk = {
    realRoot: await realpath(root),
    files: new Map(),
    directories: new Set(),
    problems: [],
    links: [],
  };
  const identity = await identityOf(root);
  await walkDirectory(walk, walk.realRoot, '');
  // Links last, so that a file goes by its own name where it has one.
  for (let link = walk.links.shift(); link !== undefined; link = walk.links.shift()) await followLink(walk, link);

  const files = [...walk.files.values()].toSorted((a, b) => compareBytes(a.path, b.path));
  const directories = [...new Set([...walk.directories, ...files.map(({ realPath }) => dirname(realPath))])].toSorted(
    compareBytes,
  );
  const problems = walk.problems.toSorted(compareBytes);
  const parts = [identity, ...files.map(({ path, signature }) => `${path} ${signature}`), ...directories, ...problems];
  return { identity, files, problems, directories, signature: sha256(JSON.stringify(parts)) };
}

/** A path, what it leads to, and which inode that is; an inode number alone is used again by the next directory. */
export async function identityOf(root: string): Promise<string> {
  const real = await realpath(root);
  const { dev, ino, birthtimeNs } = await stat(real, { bigint: true });
  return `${real} ${dev}:${ino}:${birthtimeNs}`;
}

interface Walk {
  readonly realRoot: string;
  readonly files: Map<string, ScannedFile>;
  readonly directories: Set<string>;
  readonly problems: string[];
  readonly links: { readonly path: string; readonly shown: string }[];
}

async function walkDirectory(walk: Walk, directory: string, shown: string): Promise<void> {
  if (walk.directories.has(directory)) return;
  walk.directories.add(directory);
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    if (/^[.#~]/.test(entry.name)) continue;
    const path = join(directory, entry.name);
    const shownPath = shown === '' ? entry.name : `${shown}/${entry.name}`;
    if (entry.isSymbolicLink()) walk.links.push({ path, shown: shownPath });
    else if (entry.isDirectory()) await walkDirectory(walk, path, shownPath);
    else if (isDeclaration(entry.name)) await addFile(walk, path, shownPath);
  }
}

async function followLink(walk: Walk, link: { readonly path: string; readonly shown: string }): Promise<void> {
  let real: string;
  try {
    real = await realpath(link.path);
  } catch (error) {
    if (!isMissing(error) && !isLoop(error)) throw error;
    if (isDeclaration(link.shown)) walk.problems.push(`${link.shown}:1:1: a symbolic link that leads nowhere`);
    return;
  }
  if (real !== walk.realRoot && !real.startsWith(walk.realRoot + sep)) {
    walk.problems.push(`${link.shown}:1:1: a symbolic link that leads out of the directory; refused`);
    return;
  }
  const isDirectory = (await stat(real)).isDirectory();
  if (isDirectory) await walkDirectory(walk, real, link.shown);
  else if (isDeclaration(link.shown)) await addFile(walk, real, link.shown);
}

async function addFile(walk: Walk, realPath: string, path: string): Promise<void> {
  if (walk.files.has(realPath)) return;
  const found = await stat(realPath, { bigint: true });
  if (!found.isFile()) {
    walk.problems.push(`${path}:1:1: not a regular file; refused`);
    return;
  }
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  walk.files.set(realPath, {
    path,
    realPath,
    size: Number(size),
    modifiedAtMs: Number(mtimeNs / 1_000_000n),
    signature: `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`,
  });
}

function isDeclaration(name: string): boolean {
  return /\.ya?ml$/.test(name);
}

function isLoop(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ELOOP';
}
