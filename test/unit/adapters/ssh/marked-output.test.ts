import { expect, it } from 'vitest';

import { MarkedOutput } from '../../../../src/adapters/ssh/marked-output.ts';
import { CappedOutput } from '../../../../src/ports/run-streams.ts';

const MARK = 'f'.repeat(32);

it('finds the mark wherever it is cut, and keeps what comes after it', () => {
  const output = new MarkedOutput(MARK, new CappedOutput());
  for (const byte of Buffer.from(`welcome ${MARK}the output`)) output.push(Buffer.of(byte));
  expect(output.toBuffer().toString()).toBe('the output');
});

it('keeps no more than the last page of an endless greeting, since it is searched with every chunk', () => {
  const output = new MarkedOutput(MARK, new CappedOutput());
  for (let chunk = 0; chunk < 100; chunk += 1) output.push(Buffer.alloc(32 * 1024, 'x'));
  expect(output.unmarked().length).toBeLessThanOrEqual(4096);
  expect(output.isMarked).toBe(false);
  output.push(Buffer.from(`${MARK}late`));
  expect(output.toBuffer().toString()).toBe('late');
});
