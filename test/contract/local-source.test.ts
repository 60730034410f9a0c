import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { LocalSource } from '../../src/adapters/local/local-source.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { writeTree } from '../support/git-repo.ts';
import { tempDir } from '../support/temp-dir.ts';
import { describePluginSource } from './plugin-source.ts';

describePluginSource('local', {
  create: async () => {
    const registry = await tempDir();
    return {
      source: new LocalSource({ dirs: [registry], clock: new SystemClock() }),
      publish: async (files) => {
        await rm(join(registry, 'demo'), { recursive: true, force: true });
        await mkdir(join(registry, 'demo'));
        await writeTree(join(registry, 'demo'), files);
      },
      following: 'demo',
      missing: 'local://other',
      malformed: 'local://../demo',
      leftovers: async () => [],
      keepsHistory: false,
    };
  },
});
