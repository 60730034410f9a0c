import { createHash } from 'node:crypto';
import { constants, type BigIntStats } from 'node:fs';
import { lstat, open, opendir, readlink } from 'node:fs/promises';
import { join } from 'node:path';

import { ArchiveBudget, showPath, type ArchiveLimits } from '../../domain/archive.ts';
import { compareBytes } from '../../domain/digest.ts';
import { transient, type ReconcileError } from '../../domain/errors.ts';

/** One thing below a directory, with everything that moves when somebody touches it. */
export interface WalkedEntry {
  /** Relative to the root of the walk. */
  readonly path: string;
  readonly absolute: string;
  readonly kind: 'file' | 'link' | 'other';
  /** For `other`: what it is. */
  readonly what: string;
  readonly stats: BigIntStats;
}

/**
 * Everything below a directory but directories, sorted by path. Follows no link, opens no file, leaves `.git` out.
 * Throws `SourceRejected` (terminal) at the first entry over the limits, `SourceUnavailable` (transient) when it cannot look.
 */
export async function walkTree(
  root: string,
  limits: ArchiveLimits,
  signal: AbortSignal,
): Promise<readonly WalkedEntry[]> {
  const found: WalkedEntry[] = [];
  const budget = new ArchiveBudget(limits);
  // Directories cost memory too, and a tree of nothing but directories has no entry that would be counted.
  const directories = new ArchiveBudget(limits);
  const pending: string[] = [''];
  for (let prefix = pending.pop(); prefix !== undefined; prefix = pending.pop()) {
    directories.add(0);
    for await (const name of namesIn(join(root, prefix))) {
      signal.throwIfAborted();
      if (name.text === '.git') continue;
      const path = prefix + name.text;
      const absolute = join(root, path);
      const stats = name.isUtf8 ? await statOf(absolute) : undefined;
      if (stats?.isDirectory()) {
        pending.push(`${path}/`);
        continue;
      }
      budget.add(stats?.isFile() ? Number(stats.size) : 0);
      found.push({ path, absolute, ...describe(stats), stats: stats ?? (await statOf(join(root, prefix))) });
    }
  }
  return found.toSorted((a, b) => compareBytes(a.path, b.path));
}

async function* namesIn(directory: string): AsyncGenerator<{ readonly text: string; readonly isUtf8: boolean }> {
  try {
    // Names are bytes; Node's types do not know that `opendir` hands them out as such.
    for await (const { name } of await opendir(directory, { encoding: 'buffer' as BufferEncoding })) {
      const bytes = name as unknown as Buffer;
      const text = bytes.toString();
      yield { text, isUtf8: bytes.equals(Buffer.from(text)) };
    }
  } catch (error) {
    throw unreadable(directory, error);
  }
}

async function statOf(path: string): Promise<BigIntStats> {
  try {
    return await lstat(path, { bigint: true });
  } catch (error) {
    throw unreadable(path, error);
  }
}

function describe(stats: BigIntStats | undefined): Pick<WalkedEntry, 'kind' | 'what'> {
  if (stats === undefined) return { kind: 'other', what: 'name that is not UTF-8' };
  if (stats.isFile()) return { kind: 'file', what: 'file' };
  if (stats.isSymbolicLink()) return { kind: 'link', what: 'link' };
  if (stats.isFIFO()) return { kind: 'other', what: 'FIFO' };
  if (stats.isSocket()) return { kind: 'other', what: 'socket' };
  return { kind: 'other', what: 'device' };
}

/** Equal signatures mean that nobody touched anything, as far as time stamps can tell. */
export function signatureOf(entries: readonly WalkedEntry[]): string {
  const hash = createHash('sha256');
  for (const { path, stats } of entries) {
    const { mode, size, mtimeNs, ctimeNs, ino, dev } = stats;
    hash.update(`${path}\0${mode} ${size} ${mtimeNs} ${ctimeNs} ${dev}:${ino}\n`);
  }
  return hash.digest('hex');
}

/** The bytes of a file that is still what the walk found there. */
export async function* readWalked({ absolute, stats }: WalkedEntry): AsyncGenerator<Uint8Array> {
  // NONBLOCK: opening a FIFO that was put there meanwhile would wait for a writer.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(absolute, flags).catch((error: unknown) => {
    throw unreadable(absolute, error);
  });
  try {
    const now = await handle.stat({ bigint: true });
    if (now.ino !== stats.ino || now.size !== stats.size || !now.isFile()) throw changed(absolute);
    for await (const chunk of handle.createReadStream({ autoClose: false })) yield chunk as Buffer;
  } finally {
    await handle.close();
  }
}

export async function targetOf({ absolute }: WalkedEntry): Promise<string> {
  try {
    return await readlink(absolute);
  } catch (error) {
    throw unreadable(absolute, error);
  }
}

function changed(path: string): ReconcileError {
  return transient('SourceUnavailable', `${showPath(path)} changed while it was read; it is read again`);
}

export function unreadable(path: string, error: unknown): ReconcileError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  return transient('SourceUnavailable', `${showPath(path)} cannot be read (${code})`, error);
}
