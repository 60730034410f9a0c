import { expect, it } from 'vitest';

import { CappedOutput } from '../../../src/ports/run-streams.ts';

it('keeps what it was given and not the chunks, of which a byte may hold on to a whole packet', () => {
  const output = new CappedOutput(1000);
  const packet = Buffer.from('abc');
  for (let round = 0; round < 100; round += 1) output.push(packet.subarray(round % 3, (round % 3) + 1));
  packet.fill('-');
  expect(output.toBuffer().toString()).toBe(`${'abc'.repeat(33)}a`);
});

it('takes as much as its cap, and not a byte more', () => {
  const output = new CappedOutput(10);
  for (let byte = 0; byte < 10; byte += 1) output.push(Buffer.of(byte));
  expect([...output.toBuffer()]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(() => output.push(Buffer.of(10))).toThrow('more than 10 bytes');
});
