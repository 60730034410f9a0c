import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Heap } from '../../../src/controller/heap.ts';

interface Item {
  readonly rank: number;
}

const step = fc.oneof(
  fc.record({ do: fc.constant('push' as const), rank: fc.integer({ min: 0, max: 20 }) }),
  fc.record({ do: fc.constant('pop' as const) }),
  fc.record({ do: fc.constant('remove' as const), nth: fc.nat(30) }),
);

test('whatever is pushed and removed, pop gives the smallest that is left', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const heap = new Heap<Item>((a, b) => a.rank < b.rank);
      const model = new Set<Item>();
      const takeSmallest = (): void => {
        const popped = heap.pop();
        const ranks = [...model].map((item) => item.rank);
        expect(popped?.rank).toBe(ranks.length === 0 ? undefined : Math.min(...ranks));
        expect(popped === undefined || model.delete(popped)).toBe(true);
      };
      for (const action of steps) {
        if (action.do === 'push') {
          const item = { rank: action.rank };
          model.add(item);
          heap.push(item);
        } else if (action.do === 'pop') {
          takeSmallest();
        } else {
          const victim = [...model][action.nth] ?? { rank: 0 };
          model.delete(victim);
          heap.remove(victim);
        }
        expect(heap.size).toBe(model.size);
      }
      while (model.size > 0) takeSmallest();
      expect(heap.peek()).toBeUndefined();
    }),
  );
});

test('the item that fills the gap of a removed one can belong further up', () => {
  const heap = new Heap<Item>((a, b) => a.rank < b.rank);
  const items = [0, 10, 1, 11, 12, 2, 3].map((rank) => ({ rank }));
  for (const item of items) heap.push(item);
  heap.remove(items[3]!);
  expect(Array.from({ length: 6 }, () => heap.pop()?.rank)).toEqual([0, 1, 2, 3, 10, 12]);
});
