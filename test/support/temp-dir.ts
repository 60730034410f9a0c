import { mkdtemp, readdir, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { onTestFinished } from 'vitest';

/** A directory that goes when the running test has ended. */
export async function tempDir(): Promise<string> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'plugset-test-')));
  onTestFinished(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }));
  return dir;
}

/** Every path below a directory, sorted. */
export async function everythingIn(dir: string): Promise<readonly string[]> {
  return (await readdir(dir, { recursive: true })).toSorted();
}
