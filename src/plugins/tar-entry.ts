/*
 * Just enough tar for a stream that one of our scripts unpacks, as generators: nothing is read from a source before the
 * target takes it, and whoever stops reading ends it all. GNU form, which carries long and UTF-8 paths everywhere.
 */

const BLOCK_BYTES = 512;
const NAME_BYTES = 100;

export interface TarEntry {
  /** A path that ends in `/` is a directory. */
  readonly path: string;
  readonly mode: number;
  readonly size: number;
  readonly content: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** The bytes of one entry. A content that is shorter or longer than its size is an error. */
export async function* tarEntry(entry: TarEntry): AsyncGenerator<Uint8Array> {
  const name = Buffer.from(entry.path);
  if (name.byteLength > NAME_BYTES) {
    yield header(Buffer.from('././@LongLink'), 'L', 0o644, name.byteLength + 1);
    yield padded(Buffer.concat([name, Buffer.alloc(1)]));
  }
  yield header(name.subarray(0, NAME_BYTES), entry.path.endsWith('/') ? '5' : '0', entry.mode, entry.size);
  let written = 0;
  for await (const chunk of entry.content) {
    written += chunk.byteLength;
    if (written > entry.size) break;
    yield chunk;
  }
  if (written !== entry.size)
    throw new Error(`${entry.path} has another size than the ${entry.size} bytes that were announced`);
  yield Buffer.alloc(-written & (BLOCK_BYTES - 1));
}

/** Two blocks of zeros close an archive. */
export function tarEnd(): Uint8Array {
  return Buffer.alloc(2 * BLOCK_BYTES);
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc(-content.byteLength & (BLOCK_BYTES - 1))]);
}

function header(name: Buffer, type: string, mode: number, size: number): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number): void =>
    void block.write(value.toString(8).padStart(digits, '0'), at);
  name.copy(block, 0);
  octal(mode, 100, 7);
  octal(0, 108, 7);
  octal(0, 116, 7);
  octal(size, 124, 11);
  octal(0, 136, 11);
  block.write(type, 156);
  block.write('ustar  ', 257);
  block.fill(' ', 148, 156);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    6,
  );
  block[154] = 0;
  return block;
}
