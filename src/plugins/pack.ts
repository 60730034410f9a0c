import { createHash } from 'node:crypto';
import { open, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';

import { ArchiveBudget, rejected, showPath, type ArchiveLimits } from '../domain/archive.ts';
import { compareBytes, type Digest } from '../domain/digest.ts';
import { transient } from '../domain/errors.ts';
import { treeDigest, treeLists } from '../domain/tree.ts';
import type { SourceEntry } from '../ports/plugin-source.ts';
import { LinkTree } from './link-tree.ts';
import { writeTreeArchive, type StoredFile } from './tree-archive.ts';

export interface PackOptions {
  /** Existing empty directory; the archive is written to it, and nothing else is left there. */
  readonly dir: string;
  readonly limits: ArchiveLimits;
  readonly signal: AbortSignal;
}

export interface PackedTree {
  readonly digest: Digest;
  /** Of the canonical tar, inside the directory that was handed over. */
  readonly path: string;
}

/** A file as it lies in the spool, before it has its place in the tree. */
type Spooled = Omit<StoredFile, 'path'>;

/**
 * Turns what a source hands over into a checked tree and its canonical tar. Entries come in any order and are hostile
 * until this has seen them: contents go to one spool file under no name of theirs, links exist in memory only.
 * Throws `SourceRejected` (terminal) at the first entry or byte that breaks a rule.
 */
export async function packTree(entries: AsyncIterable<SourceEntry>, options: PackOptions): Promise<PackedTree> {
  const { dir, limits, signal } = options;
  const spoolPath = join(dir, 'spool');
  const spool = await open(spoolPath, 'wx+', 0o600);
  try {
    const tree = await takeIn(entries, spool, limits, signal);
    const files = placeFiles(tree, limits);
    const path = join(dir, 'tree.tar');
    await writeTreeArchive(path, files, spool, signal);
    return { digest: treeDigest(treeLists(files)), path };
  } finally {
    await spool.close();
    await rm(spoolPath, { force: true });
  }
}

async function takeIn(
  entries: AsyncIterable<SourceEntry>,
  spool: FileHandle,
  limits: ArchiveLimits,
  signal: AbortSignal,
): Promise<LinkTree<Spooled>> {
  const tree = new LinkTree<Spooled>(limits);
  const budget = new ArchiveBudget(limits);
  let offset = 0;
  for await (const entry of entries) {
    signal.throwIfAborted();
    if (!tree.accepts(entry.path)) continue;
    // What it claims counts before a byte of it is read; what it has is held to the claim.
    budget.add(entry.kind === 'file' ? entry.size : 0);
    if (entry.kind === 'other') throw rejected(`${showPath(entry.path)} is a ${entry.what}`);
    if (entry.kind === 'link') {
      tree.addLink(entry.path, entry.target);
      continue;
    }
    const sha256 = await spoolContent(entry, spool, offset, signal);
    tree.addFile(entry.path, { sha256, size: entry.size, executable: entry.executable, offset });
    offset += entry.size;
  }
  return tree;
}

/** Copies one content to the spool; returns its hex digest. */
async function spoolContent(
  entry: Extract<SourceEntry, { kind: 'file' }>,
  spool: FileHandle,
  offset: number,
  signal: AbortSignal,
): Promise<string> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of entry.content) {
    signal.throwIfAborted();
    if (size + chunk.byteLength > entry.size) throw changedWhileRead(entry.path);
    hash.update(chunk);
    await writeAll(spool, chunk, offset + size);
    size += chunk.byteLength;
  }
  if (size !== entry.size) throw changedWhileRead(entry.path);
  return hash.digest('hex');
}

/** A single write may be short: on a disk that is filling up the next one says so. */
async function writeAll(handle: FileHandle, chunk: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < chunk.byteLength) {
    const { bytesWritten } = await handle.write(chunk, written, chunk.byteLength - written, position + written);
    written += bytesWritten;
  }
}

function changedWhileRead(path: string): Error {
  return transient('SourceUnavailable', `${showPath(path)} changed while it was read; it is read again`);
}

/** Every file under its final path, in canonical order. Copies made for links count like any other file. */
function placeFiles(tree: LinkTree<Spooled>, limits: ArchiveLimits): readonly StoredFile[] {
  const budget = new ArchiveBudget(limits);
  const files: StoredFile[] = [];
  for (const { path, file } of tree.files()) {
    budget.add(file.size);
    files.push({ ...file, path });
  }
  if (files.length === 0) throw rejected('there is no file in it');
  return files.toSorted((a, b) => compareBytes(a.path, b.path));
}
