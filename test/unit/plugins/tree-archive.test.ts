import type { FileHandle } from 'node:fs/promises';

import { expect, it } from 'vitest';

import { WindowedFile } from '../../../src/plugins/tree-archive.ts';

const KIB = 1024;

/** A file of so many bytes, each the low byte of where it lies, and how much of it was read how often. */
function countedFile(size: number) {
  const reads: number[] = [];
  const read = async (buffer: Buffer, _offset: number, length: number, position: number) => {
    const bytesRead = Math.max(0, Math.min(length, size - position));
    for (let index = 0; index < bytesRead; index += 1) buffer[index] = (position + index) & 0xff;
    reads.push(bytesRead);
    return { bytesRead, buffer };
  };
  return { file: new WindowedFile({ read } as unknown as FileHandle), reads };
}

async function expectRead(file: WindowedFile, offset: number, size: number): Promise<void> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of file.contentOf({ offset, size })) chunks.push(chunk);
  const content = Buffer.concat(chunks);
  expect(content).toHaveLength(size);
  expect([content[0], content.at(-1)]).toEqual([offset & 0xff, (offset + size - 1) & 0xff]);
}

it('reads of one file what that one has', async () => {
  const { file, reads } = countedFile(1024 * KIB);
  await expectRead(file, 512, 300);
  expect(reads).toEqual([300]);
});

it('reads small files that lie one behind the other in a few windows', async () => {
  const { file, reads } = countedFile(1024 * KIB);
  for (let offset = 512; offset < 512 * KIB; offset += KIB) await expectRead(file, offset, 300);
  expect(reads.length).toBeLessThanOrEqual(4);
});

it('reads files in another order each once, and a large one in windows', async () => {
  const { file, reads } = countedFile(1024 * KIB);
  for (let offset = 512 * KIB; offset > 0; offset -= KIB) await expectRead(file, offset, 300);
  expect(reads.reduce((sum, bytes) => sum + bytes, 0)).toBe(512 * 300);
  await expectRead(file, 0, 1000 * KIB);
  expect(Math.max(...reads)).toBe(256 * KIB);
});

it('takes a file that ends too early for no content', async () => {
  const { file } = countedFile(10);
  await expect(expectRead(file, 5, 10)).rejects.toThrow('file ends at 10, 15 expected');
});
