import { randomUUID } from 'node:crypto';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface WriteOptions {
  /** Through to the disk before it counts: for what must survive a power cut. */
  readonly isDurable?: boolean;
  /** Permission bits of the file; what an existing one had, when it is replaced on behalf of a person. */
  readonly mode?: number;
}

/**
 * Puts `text` in place of the file as a whole: a reader sees the old one or the new one. The temporary file begins with
 * a dot, so that no reader of a directory takes it for one of its own.
 */
export async function writeAtomically(path: string, text: string, options: WriteOptions = {}): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true });
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
