import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface WriteOptions {
  /** Through to the disk before it counts: for what must survive a power cut. */
  readonly isDurable?: boolean;
  /** Permission bits of the file; what an existing one had, when it is replaced on behalf of a person. Default 0644. */
  readonly mode?: number;
  /** Permission bits of directories that have to be made. Default 0755. */
  readonly directoryMode?: number;
}

/** Mode of the directories that plugset keeps for itself. */
export const PRIVATE_DIRECTORY = 0o700;

/** The same for what nobody but its owner shall read. */
export function writePrivately(path: string, text: string, isDurable: boolean): Promise<void> {
  return writeAtomically(path, text, { isDurable, mode: 0o600, directoryMode: PRIVATE_DIRECTORY });
}

/**
 * Puts `text` in place of the file as a whole: a reader sees the old one or the new one. The temporary file begins with
 * a dot, so that no reader of a directory takes it for one of its own.
 */
export async function writeAtomically(path: string, text: string, options: WriteOptions = {}): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: options.directoryMode ?? 0o755 });
  const temporary = join(folder, `.${basename(path).slice(0, 100)}.${randomUUID()}.tmp`);
  try {
    const file = await open(temporary, 'wx', options.mode ?? 0o644);
    try {
      await file.writeFile(text);
      if (options.isDurable === true) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
