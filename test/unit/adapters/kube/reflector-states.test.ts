import { expect, it } from 'vitest';

import { stateOfAll } from '../../../../src/adapters/kube/reflector-states.ts';

it('copies of one kind count as one: as whole as the least, as silent as the worst', () => {
  const copy = (objects: number, isSynced: boolean, silentSeconds: number) => ({
    state: () => ({ resource: 'pods', objects, isSynced, silentSeconds }),
  });
  expect(stateOfAll('pods', [copy(2, true, 1), copy(3, true, 70)])).toEqual([
    { resource: 'pods', objects: 5, isSynced: true, silentSeconds: 70 },
  ]);
  expect(stateOfAll('pods', [copy(2, true, 1), copy(0, false, 0)])).toMatchObject([{ isSynced: false }]);
  expect(stateOfAll('pods', [])).toEqual([]);
});
