import { describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { benchFleetOfObjects, hasGo } from './fleet-of-objects.ts';
import { benchComingAndGoing } from './objects-come-and-go.ts';
import { renderTable } from './table.ts';

await withBackend('kube-apiserver', (programs) => {
  describe('reach', () => {
    it.skipIf(!hasGo())(
      'prints how it compares with a program made with controller-runtime',
      { timeout: 1_800_000 },
      async () => {
        const rows = await benchFleetOfObjects(programs);
        expect(rows).not.toEqual([]);
        process.stdout.write(`\n${renderTable(rows)}\n\n`);
      },
    );

    it('prints what is left of objects that are gone', { timeout: 7_200_000 }, async () => {
      const rows = await benchComingAndGoing(programs);
      expect(rows).toHaveLength(1);
      process.stdout.write(`\n${renderTable(rows)}\n\n`);
    });
  });
});
