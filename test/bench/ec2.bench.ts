import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { benchFleetOfInstances } from './fleet-of-instances.ts';
import { renderTable, type Row } from './table.ts';
import { benchTunnelRate } from './tunnel-rate.ts';

await withBackend('machine', async () => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it('prints how fast the way to an EC2 instance is', { timeout: 1_800_000 }, async () => {
        const rows = await benchTunnelRate();
        expect(rows).not.toEqual([]);
        print(rows);
      });

      it('prints how many EC2 instances can share an endpoint', { timeout: 1_800_000 }, async () => {
        const rows = await benchFleetOfInstances(postgres);
        expect(rows).not.toEqual([]);
        print(rows);
      });
    });
  });
});

function print(rows: readonly Row[]): void {
  process.stdout.write(`\n${renderTable(rows)}\n\n`);
}
