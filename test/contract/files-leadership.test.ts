import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { LeaderProcess } from '../support/leader-process.ts';
import { describeLeadership } from './leadership.ts';

describeLeadership('files', {
  async create() {
    const base = await mkdtemp(join(tmpdir(), 'plugset-lead-'));
    const state = join(base, 'state');
    const processes: LeaderProcess[] = [];
    return {
      async open(name = `candidate-${processes.length}`) {
        const process = await LeaderProcess.start(state, name);
        processes.push(process);
        return { leadership: process, holder: process.holder, crash: () => process.kill() };
      },
      // A file in its place is in the way of root, too.
      break: () => writeFile(state, ''),
      heal: () => rm(state),
      async dispose() {
        for (const process of processes) await process.kill();
        await rm(base, { recursive: true });
      },
    };
  },
});
