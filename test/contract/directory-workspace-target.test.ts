import { chown, mkdir, mkdtemp, readdir, readFile, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { DirectoryTargetProvider } from '../../src/adapters/directory/directory-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { describeWorkspaceTarget } from './workspace-target.ts';

const own = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
const NO_CONNECTION = 'nothing lies between plugset and a local process';

describeWorkspaceTarget('directory', {
  unsupported: {
    'claims no success for a target that goes away under the command':
      'a process goes on in a directory that was removed',
    'calls the outcome unknown when the connection is cut under the command': NO_CONNECTION,
    'calls the outcome unknown when nothing gets through any more': NO_CONNECTION,
    'never takes a target that it could not ask for one that is gone': NO_CONNECTION,
  },
  async create() {
    const root = await realpath(await mkdtemp(join(tmpdir(), 'plugset-target-')));
    const path = join(root, 'alice');
    await mkdir(path);
    // Only root can show that commands run as somebody else.
    const owner = own.uid === 0 ? { uid: 1000, gid: 1000 } : own;
    await chown(path, owner.uid, owner.gid);
    // Names for a stranger: mkdtemp lets only the owner in.
    await chown(root, owner.uid, owner.gid);
    const provider = new DirectoryTargetProvider({
      roots: [{ path: root }],
      path: process.env['PATH'] ?? '',
      clock: new SystemClock(),
    });
    return {
      locate: () => provider.locate(workspaceAt({ directory: { path } }), new AbortController().signal),
      configDir: '.',
      owner,
      observerUid: own.uid,
      exists: (name) => exists(join(path, name)),
      commandLines,
      remove: () => rm(path, { recursive: true }),
      async dispose() {
        await provider.close();
        await rm(root, { recursive: true, force: true });
      },
    };
  },
});

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Zombies have none. */
async function commandLines(): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
  return lines.map((line) => line.replaceAll('\0', ' '));
}
