import { expect, test } from 'vitest';

import { WatchBackoff } from '../../../../src/adapters/kube/watch-backoff.ts';

test('the pause doubles from 0.8 s to 30 s, is anything up to that, and begins again after a reset', () => {
  let chance = 1;
  const backoff = new WatchBackoff({ random: () => chance });
  expect(Array.from({ length: 8 }, () => backoff.next())).toEqual([
    800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000,
  ]);
  chance = 0.25;
  expect(backoff.next()).toBe(7_500);
  backoff.reset();
  expect(backoff.next()).toBe(200);
});

test('the jitter comes on top of what the server asked for', () => {
  expect(new WatchBackoff({ random: () => 0.5 }).next(3_000)).toBe(3_400);
});
