import { mkdir, mkdtemp, readdir, realpath, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';

import type { Clock } from '../../ports/clock.ts';
import { cacheFailure, type ScratchDir, type ScratchSpace } from '../../ports/scratch-space.ts';

/** No work in progress lasts this long, so what is older belongs to nobody, whatever machine made it. */
const STALE_AFTER_MS = 3_600_000;

/** Nothing else is ever deleted, in case the root was not ours alone after all. */
const OURS = /^[^.]+\.[1-9]\d*\.[A-Za-z0-9]{6}$/;

/**
 * Scratch directories under one root, named `<host>.<pid>.<random>`, so that a later process can tell what a dead one
 * left from what a living neighbour (a command line beside the daemon) is using.
 */
export class DiskScratchSpace implements ScratchSpace {
  readonly #prefix: string;

  private constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** Makes the root if need be and sweeps what dead processes left in it. Not twice for one root in one process. */
  static async open(root: string, clock: Clock): Promise<DiskScratchSpace> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    const owner = `${hostname().replaceAll('.', '-')}.${process.pid}.`;
    const resolved = await realpath(root);
    for (const name of await readdir(resolved)) {
      if (!OURS.test(name)) continue;
      const path = join(resolved, name);
      if (isDead(name, owner) || (await ageMs(path, clock)) > STALE_AFTER_MS) {
        await rm(path, { recursive: true, force: true });
      }
    }
    return new DiskScratchSpace(join(resolved, owner));
  }

  async create(): Promise<ScratchDir> {
    const path = await mkdtemp(this.#prefix).catch((error: unknown) => {
      throw cacheFailure(error, dirname(this.#prefix));
    });
    return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 3 }) };
  }
}

/** Our own pid at opening time is a dead namesake: in a container every daemon is process 1. */
function isDead(name: string, owner: string): boolean {
  if (name.startsWith(owner)) return true;
  const [host, pid] = name.split('.');
  if (host !== owner.split('.')[0]) return false;
  try {
    process.kill(Number(pid), 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

async function ageMs(path: string, clock: Clock): Promise<number> {
  try {
    return clock.now() - (await stat(path)).mtimeMs;
  } catch {
    return 0;
  }
}
