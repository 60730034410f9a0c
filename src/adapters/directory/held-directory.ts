import { constants } from 'node:fs';
import { open, readlink } from 'node:fs/promises';

/**
 * A directory held open. Its path is the agent's to change wherever the agent may write to a directory above it: one that
 * was checked as a path and is then entered as a path may be somebody else's by then.
 */
export interface HeldDirectory {
  readonly identity: string;
  /** Where it lies, all links resolved. */
  readonly realPath: string;
  /** Leads to this very directory, for this process and for what it spawns, as long as it is held. */
  readonly entrance: string;
  release(): Promise<void>;
}

/** Throws what the file system says; `ENOTDIR` for a symbolic link too. */
export async function holdDirectory(path: string): Promise<HeldDirectory> {
  const handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    const { dev, ino } = await handle.stat({ bigint: true });
    const entrance = `/proc/self/fd/${handle.fd}`;
    return {
      identity: `directory:${dev}:${ino}`,
      realPath: await readlink(entrance),
      entrance,
      release: () => handle.close(),
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}
