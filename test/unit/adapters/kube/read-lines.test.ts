import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { LineTooLong, readLines } from '../../../../src/adapters/kube/read-lines.ts';

async function* chunksOf(bytes: Buffer, cuts: readonly number[]): AsyncGenerator<Buffer> {
  let from = 0;
  for (const cut of [...cuts.filter((one) => one < bytes.length).toSorted((a, b) => a - b), bytes.length]) {
    yield bytes.subarray(from, cut);
    from = cut;
  }
}

async function linesOf(text: string, cuts: readonly number[] = [], longest = 1_000): Promise<readonly string[]> {
  const lines: string[] = [];
  for await (const line of readLines(chunksOf(Buffer.from(text), cuts), longest)) lines.push(line);
  return lines;
}

describe('readLines', () => {
  it('has the same lines wherever the chunks are cut, in the middle of a character too', async () => {
    const lines = fc.array(
      fc.string({ unit: 'grapheme' }).filter((line) => line.trim() !== '' && !line.includes('\n')),
    );
    await fc.assert(
      fc.asyncProperty(lines, fc.array(fc.nat(200)), async (wanted, cuts) => {
        expect(await linesOf(wanted.map((line) => `${line}\n`).join(''), cuts)).toEqual(wanted);
      }),
    );
  });

  it('cuts a character of four bytes and has it whole', async () => {
    expect(await linesOf('a🧩b\n', [2, 3, 4])).toEqual(['a🧩b']);
  });

  it('takes what was cut off at the end for nothing', async () => {
    expect(await linesOf('{"a":1}\n{"b"')).toEqual(['{"a":1}']);
  });

  it('leaves out empty lines', async () => {
    expect(await linesOf('\n\r\na\n\n')).toEqual(['a']);
  });

  it('takes a line of the longest length, and none that is longer, whether it ends or not', async () => {
    expect(await linesOf(`${'x'.repeat(10)}\n`, [4], 10)).toHaveLength(1);
    await expect(linesOf(`${'x'.repeat(11)}\n`, [4], 10)).rejects.toThrow(LineTooLong);
    await expect(linesOf('x'.repeat(11), [4], 10)).rejects.toThrow(LineTooLong);
  });
});
