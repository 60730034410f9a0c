import { expect, it } from 'vitest';

import { EndedOutput } from '../../../../src/adapters/kube/ended-output.ts';
import { CappedOutput } from '../../../../src/ports/run-streams.ts';

const MARK = '0123456789abcdef';

it.each([1, 2, 3, 7, 100])('ends where the mark stands, however it is cut: pieces of %i', (size) => {
  const whole = Buffer.from(`out 01 012345\n${MARK} 12.of nobody`);
  const output = new EndedOutput(new CappedOutput(), `${MARK} `, '.');
  for (let start = 0; start < whole.length; start += size) output.push(whole.subarray(start, start + size));
  expect(output.last).toBe('12');
  expect(output.toBuffer().toString()).toBe('out 01 012345\n');
});

it('has not ended before all of that has come', () => {
  const output = new EndedOutput(new CappedOutput(), `${MARK} `, '.');
  output.push(Buffer.from(`out${MARK} 1`));
  expect(output.last).toBeUndefined();
  output.push(Buffer.from('2'));
  expect(output.last).toBeUndefined();
  output.push(Buffer.from('7.'));
  expect(output.last).toBe('127');
});

it('keeps no more than it may', () => {
  const output = new EndedOutput(new CappedOutput(10), MARK);
  output.push(Buffer.alloc(10, 'a'));
  expect(() => output.push(Buffer.alloc(100, 'a'))).toThrow(expect.objectContaining({ reason: 'ObserveFailed' }));
});
