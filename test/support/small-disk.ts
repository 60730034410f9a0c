import { execFile } from 'node:child_process';
import { mkdtemp, open, realpath, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Backend } from './backend.ts';

const run = promisify(execFile);

const FILLER = 'filler';
const CHUNK = Buffer.alloc(4096);

/** Whether disks of a test's own can be mounted here. */
export async function findMount(): Promise<Backend> {
  if (process.getuid?.() !== 0) return { missing: 'only root can mount a small disk' };
  return { address: 'tmpfs', how: 'mounted by whoever needs one', stop: async () => undefined };
}

/** A file system of a few MiB, which a test can fill to the last byte. Made by root; whoever mounts it unmounts it. */
export class SmallDisk {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async mount(mebibytes: number): Promise<SmallDisk> {
    const path = await realpath(await mkdtemp(join(tmpdir(), 'plugset-disk-')));
    await run('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=755`, 'tmpfs', path]);
    return new SmallDisk(path);
  }

  /** Writes until nothing more fits. */
  async fill(): Promise<void> {
    const handle = await open(join(this.path, FILLER), 'a');
    try {
      for (;;) await handle.writeFile(CHUNK);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      await handle.close();
    }
  }

  async makeRoom(): Promise<void> {
    await rm(join(this.path, FILLER));
  }

  async unmount(): Promise<void> {
    await run('umount', [this.path]);
    await rmdir(this.path);
  }
}
