import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { expect } from 'vitest';
import { stringify } from 'yaml';

import { FilesWorkspaceStore } from '../../src/adapters/files/files-workspace-store.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { workspaceKey, type WorkspaceKey } from '../../src/domain/name.ts';
import { FILES_DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { eventually } from '../support/eventually.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { describeWorkspaceStore, WITHOUT_CLAIMS, type WorkspaceStoreBackend } from './workspace-store.ts';

class WatchedStore extends FilesWorkspaceStore {
  isWatching = false;

  override async watch(...args: Parameters<FilesWorkspaceStore['watch']>): Promise<void> {
    await super.watch(...args);
    this.isWatching = true;
  }
}

async function createBackend(): Promise<WorkspaceStoreBackend> {
  const base = await mkdtemp(join(tmpdir(), 'plugset-files-'));
  const root = join(base, 'workspaces');
  const hidden = join(base, 'out-of-reach');
  await mkdir(root);
  let isBroken = false;
  const fileOf = (key: WorkspaceKey): string => join(isBroken ? hidden : root, `${key}.yaml`);
  const stores: WatchedStore[] = [];
  return {
    async open() {
      const store = new WatchedStore({
        directory: root,
        stateDirectory: join(base, 'state'),
        role: 'controller',
        clock: new SystemClock(),
        logger: new RecordingLogger(),
        debounceMs: 20,
        pollMs: 50,
        vanishGraceMs: 100,
      });
      stores.push(store);
      return store;
    },
    async declare(manifest) {
      const { namespace = 'default', name } = manifest.metadata;
      const path = fileOf(workspaceKey(namespace, name));
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, stringify(manifest));
    },
    remove: (key) => rm(fileOf(key)),
    async malform(key) {
      await writeFile(fileOf(key), (await readFile(fileOf(key), 'utf8')).replace('runtime:', 'runtme:'));
    },
    async break() {
      await rename(root, hidden);
      isBroken = true;
      // A swap and back between two polls is no break.
      for (const store of stores.filter(({ isWatching }) => isWatching))
        await eventually(() => expect(store.problems()).not.toEqual([]));
    },
    async heal() {
      await rename(hidden, root);
      isBroken = false;
    },
    fence: (turn) => ({ authority: 'suite', epoch: 1, n: turn }),
    dispose: () => rm(base, { recursive: true }),
  };
}

describeWorkspaceStore('files', {
  unsupported: WITHOUT_CLAIMS,
  create: createBackend,
  defaultPolicy: FILES_DEFAULT_POLICY,
  origin: /^[a-z-]+\/[a-z0-9-]+\.yaml:\d+$/,
});
