import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';

import { extract, pack, type Pack } from 'tar-stream';

import type { TreeFile } from '../domain/tree.ts';

/*
 * The canonical tar of a tree: files only, sorted by path in bytes, mode 644 or 755, owner 0:0 without names, time 0. Equal
 * trees have equal bytes.
 */

/** A file of a tree and where in some file on our disk its content begins. */
export interface StoredFile extends TreeFile {
  readonly offset: number;
}

const WINDOW_BYTES = 256 * 1024;
const HEADER_BYTES = 512;
/** From the end of one content in an archive to the beginning of the next: padding and a header. */
const GAP_BYTES = 2 * HEADER_BYTES;

/**
 * A file on our disk, read in windows where one content is read after the other: most files of a tree are small. Whoever
 * reads one alone, or in another order, reads that one.
 */
export class WindowedFile {
  readonly #handle: FileHandle;
  #window: Uint8Array = Buffer.alloc(0);
  #windowAt = 0;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** The bytes of one stored file. Fewer than it has are an error, so that nobody takes a torn disk for content. */
  async *contentOf({ offset, size }: Pick<StoredFile, 'offset' | 'size'>): AsyncGenerator<Uint8Array> {
    const end = offset + size;
    for (let position = offset; position < end;) {
      const chunk = await this.#from(position, end - position);
      if (chunk.byteLength === 0) throw new Error(`file ends at ${position}, ${end} expected`);
      yield chunk.subarray(0, end - position);
      position += chunk.byteLength;
    }
  }

  async #from(position: number, wanted: number): Promise<Uint8Array> {
    const at = position - this.#windowAt;
    const { byteLength } = this.#window;
    if (at >= 0 && at < byteLength) return this.#window.subarray(at);
    const isNext = byteLength > 0 && at >= byteLength && at <= byteLength + GAP_BYTES;
    const bytes = isNext ? WINDOW_BYTES : Math.min(WINDOW_BYTES, wanted);
    const { bytesRead, buffer } = await this.#handle.read(Buffer.allocUnsafe(bytes), 0, bytes, position);
    this.#windowAt = position;
    this.#window = buffer.subarray(0, bytesRead);
    return this.#window;
  }
}

/** Writes a new archive of files (in canonical order) whose contents lie in `spool`, and syncs it. */
export async function writeTreeArchive(
  path: string,
  files: readonly StoredFile[],
  spool: FileHandle,
  signal: AbortSignal,
): Promise<void> {
  const archive = pack();
  const feeding = feed(archive, files, spool).catch((error: unknown) => {
    archive.destroy(error as Error);
    throw error;
  });
  const writing = pipeline(archive, createWriteStream(path, { flags: 'wx', mode: 0o600, flush: true }), { signal });
  // Whichever side breaks takes the other along; the writing knows what happened to the disk.
  const [written, fed] = await Promise.allSettled([writing, feeding]);
  if (written.status === 'rejected') throw written.reason;
  if (fed.status === 'rejected') throw fed.reason;
}

async function feed(archive: Pack, files: readonly StoredFile[], spool: FileHandle): Promise<void> {
  const spooled = new WindowedFile(spool);
  for (const file of files) await addEntry(archive, file, spooled.contentOf(file));
  archive.finalize();
}

async function addEntry(archive: Pack, file: TreeFile, content: AsyncIterable<Uint8Array>): Promise<void> {
  const mode = file.executable ? 0o755 : 0o644;
  const header = { name: file.path, size: file.size, mode, uid: 0, gid: 0, uname: '', gname: '', mtime: new Date(0) };
  const { promise: finished, settle } = deferred();
  const entry = archive.entry(header, settle);
  const writing = (async () => {
    for await (const chunk of content) {
      const hasRoom = entry.write(chunk);
      if (!hasRoom) await Promise.race([new Promise<void>((resolve) => void entry.once('drain', resolve)), finished]);
    }
    entry.end(null);
  })();
  await Promise.all([writing, finished]);
}

function deferred(): { promise: Promise<void>; settle: (error?: Error | null) => void } {
  let settle: (error?: Error | null) => void = () => undefined;
  const promise = new Promise<void>((resolve, reject) => {
    settle = (error) => (error ? reject(error) : resolve());
  });
  return { promise, settle };
}

/** Reads an archive of ours from end to end and says what is in it. Whatever such an archive cannot have is an error. */
export async function indexTreeArchive(path: string, signal: AbortSignal): Promise<readonly StoredFile[]> {
  const archive = extract();
  const files: StoredFile[] = [];
  const reading = (async () => {
    for await (const entry of archive) {
      const { type, name, size, mode } = entry.header;
      if (type !== 'file') throw new Error(`unexpected ${type} in ${path}`);
      // The entry's own offset is that of its header.
      const offset = entry.offset + HEADER_BYTES;
      const sha256 = await sha256Of(entry as AsyncIterable<Uint8Array>);
      files.push({ path: name, size, executable: (mode & 0o100) !== 0, offset, sha256 });
    }
  })();
  await Promise.all([pipeline(createReadStream(path), archive, { signal }), reading]);
  return files;
}

async function sha256Of(content: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of content) hash.update(chunk);
  return hash.digest('hex');
}
