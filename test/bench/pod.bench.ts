import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { nodeAt } from '../support/kube/node.ts';
import { benchPodConverge } from './pod-converge.ts';
import { renderTable } from './table.ts';

await withBackend('node', async (address) => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it('prints how the first converge of a pod compares with a tar', { timeout: 1_800_000 }, async () => {
        const rows = await benchPodConverge(postgres, await nodeAt(address));
        // Figures depend on the machine and fail nothing; the rows that miss are marked.
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      });
    });
  });
});
