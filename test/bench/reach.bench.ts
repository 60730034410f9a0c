import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { benchScale } from './at-scale.ts';
import { benchConvergedWorkspace } from './converged-workspace.ts';
import { benchEditToDisk } from './edit-to-disk.ts';
import { benchFirstConverge } from './first-converge.ts';
import { renderTable, type Row } from './table.ts';

await withBackend('docker', async (docker) => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it('prints what was wanted of it, and what it does', { timeout: 1_800_000 }, async () => {
        const containers = new TestContainers(docker);
        const rows: Row[] = [];
        try {
          const bench = { docker, postgres, containers };
          for (const part of [benchConvergedWorkspace, benchFirstConverge, benchEditToDisk, benchScale])
            rows.push(...(await part(bench)));
        } finally {
          await containers.removeAll();
        }
        // Figures depend on the machine and fail nothing; the rows that miss are marked.
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      });
    });
  });
});
