import { expect, test } from 'vitest';

import { FailureRow } from '../../../src/controller/failure-row.ts';

test('a failure is news unless it says what the one before said', () => {
  const row = new FailureRow();
  const told = (failure: unknown): boolean => row.isNews(failure);
  expect([new Error('a'), new Error('a'), new Error('b'), new TypeError('b'), 1, 2].map(told)).toEqual([
    true,
    false,
    true,
    true,
    true,
    false,
  ]);
  expect(told(new Error('a'))).toBe(true);
  row.end();
  expect(told(new Error('a'))).toBe(true);
});
