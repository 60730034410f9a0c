import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { benchFleetOfInstances } from './fleet-of-instances.ts';
import { renderTable } from './table.ts';
import { benchTunnelRate } from './tunnel-rate.ts';

await withBackend('machine', async () => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it('prints how fast the way to EC2 instances is, and how many can share it', { timeout: 1_800_000 }, async () => {
        const rows = [...(await benchTunnelRate()), ...(await benchFleetOfInstances(postgres))];
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      });
    });
  });
});
