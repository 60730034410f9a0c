import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { LeaderProcess } from '../support/leader-process.ts';
import { describeLeadership } from './leadership.ts';

describeLeadership('files', {
  async create() {
    const base = await mkdtemp(join(tmpdir(), 'plugset-lead-'));
    const processes: LeaderProcess[] = [];
    return {
      async open() {
        const process = await LeaderProcess.start(join(base, 'state'), `candidate-${processes.length}`);
        processes.push(process);
        return { leadership: process, holder: process.holder, crash: () => process.kill() };
      },
      async dispose() {
        for (const process of processes) await process.kill();
        await rm(base, { recursive: true });
      },
    };
  },
});
