import { pipeline } from 'node:stream/promises';

import { extract } from 'tar-stream';
import { describe, expect, it } from 'vitest';

import { tarEnd, tarEntry, type TarEntry } from '../../../src/plugins/tar-entry.ts';

async function bytesOf(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function entry(path: string, content: string, mode = 0o644): TarEntry {
  return { path, mode, size: Buffer.byteLength(content), content: [Buffer.from(content)] };
}

/** What another implementation makes of an archive: name, mode and content of each entry. */
async function unpack(
  archive: Uint8Array,
): Promise<readonly { name: string; mode: number | undefined; text: string }[]> {
  const found: { name: string; mode: number | undefined; text: string }[] = [];
  const reading = extract();
  const writing = pipeline([archive], reading);
  for await (const content of reading) {
    const { name, mode } = content.header;
    found.push({ name, mode, text: (await bytesOf(content as AsyncIterable<Uint8Array>)).toString() });
  }
  await writing;
  return found;
}

describe('tarEntry', () => {
  it.each([0, 1, 511, 512, 513, 70_000])('fills %d bytes of content up to a whole block', async (size) => {
    const bytes = await bytesOf(tarEntry(entry('a', 'x'.repeat(size))));
    expect(bytes.byteLength % 512).toBe(0);
    expect(bytes.subarray(512, 512 + size).toString()).toBe('x'.repeat(size));
  });

  it('carries long and UTF-8 paths and modes', async () => {
    const paths = ['plain', 'bin/é ü', `${'d/'.repeat(60)}deep`, 'n'.repeat(100), 'n'.repeat(101), 'é'.repeat(200)];
    const entries = await Promise.all(
      paths.map((path, index) => bytesOf(tarEntry(entry(path, `in ${path}`, 0o600 + index)))),
    );
    const found = await unpack(Buffer.concat([...entries, tarEnd()]));
    expect(found).toEqual(paths.map((path, index) => ({ name: path, mode: 0o600 + index, text: `in ${path}` })));
  });

  it('refuses content of another size than announced', async () => {
    await expect(bytesOf(tarEntry({ ...entry('a', 'xy'), size: 3 }))).rejects.toThrow('another size');
    await expect(bytesOf(tarEntry({ ...entry('a', 'xy'), size: 1 }))).rejects.toThrow('another size');
  });
});
