import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { hasAnsible } from './fleet-of-containers.ts';
import { benchHostOverSsh } from './host-over-ssh.ts';
import { renderTable } from './table.ts';

await withBackend('machine', async () => {
  await withBackend('postgres', (postgres) => {
    describe('reach', () => {
      it.skipIf(!hasAnsible())('prints how it compares on a host over SSH', { timeout: 1_800_000 }, async () => {
        const rows = await benchHostOverSsh(postgres);
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      });
    });
  });
});
