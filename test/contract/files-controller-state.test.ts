import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { FilesControllerState } from '../../src/adapters/files/files-controller-state.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { describeControllerState } from './controller-state.ts';

describeControllerState('files', {
  async create() {
    const base = await mkdtemp(join(tmpdir(), 'plugset-state-'));
    const stateDirectory = join(base, 'state');
    return {
      open: async () => new FilesControllerState({ stateDirectory, clock: new SystemClock() }),
      async break() {
        await rename(stateDirectory, `${stateDirectory}-out-of-reach`);
        await writeFile(stateDirectory, 'in the way');
      },
      async heal() {
        await rm(stateDirectory);
        await rename(`${stateDirectory}-out-of-reach`, stateDirectory);
      },
      dispose: () => rm(base, { recursive: true }),
    };
  },
});
