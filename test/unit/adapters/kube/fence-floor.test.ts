import { expect, test } from 'vitest';

import { FENCE_KEY, FenceFloor } from '../../../../src/adapters/kube/fence-floor.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';

const never = new AbortController().signal;

test('the newest turn that began is remembered, and no turn that is as old begins after it', async () => {
  const floor = new FenceFloor(new MemoryControllerState());
  expect(await floor.current(never)).toBeUndefined();
  expect(await floor.raise({ epoch: 5, n: 9 }, never)).toBe(true);
  expect(await floor.raise({ epoch: 5, n: 9 }, never)).toBe(false);
  expect(await floor.raise({ epoch: 4, n: 10 }, never)).toBe(false);
  expect(await floor.current(never)).toEqual({ epoch: 5, n: 9 });
  expect(await floor.raise({ epoch: 6, n: 1 }, never)).toBe(true);
  expect(await floor.current(never)).toEqual({ epoch: 6, n: 1 });
});

test.each([null, 'x', { epoch: '5', n: 1 }, { epoch: 5 }, { epoch: 1e15, n: 1 }])(
  'a document that says %j keeps nobody from leading',
  async (value) => {
    const state = new MemoryControllerState();
    await state.compareAndSwap(FENCE_KEY, undefined, value, never);
    const floor = new FenceFloor(state);
    expect(await floor.current(never)).toBeUndefined();
    expect(await floor.raise({ epoch: 5, n: 9 }, never)).toBe(true);
    expect(await floor.current(never)).toEqual({ epoch: 5, n: 9 });
  },
);
