import { transient } from '../../domain/errors.ts';
import type { SourceEntry } from '../../ports/plugin-source.ts';
import { ByteReader } from './byte-reader.ts';
import type { RunningChild } from './child-process.ts';
import type { GitSandbox } from './git-sandbox.ts';

/** Longest name and longest link target that are read; the rules for archives are far stricter. */
const MAX_RECORD_BYTES = 64 * 1024;
const MAX_TARGET_BYTES = 4096;

const NUL = 0;
const LINE_FEED = 10;

interface TreeRecord {
  readonly mode: string;
  readonly type: string;
  readonly id: string;
  readonly size: number;
  readonly path: string;
  readonly isUtf8: boolean;
}

/**
 * The files of a tree straight from the object store: nothing is checked out, so that no hook, filter, attribute or link
 * ever gets to do anything.
 */
export async function* readTree(sandbox: GitSandbox, tree: string): AsyncGenerator<SourceEntry> {
  const listing = sandbox.start('ls-tree', '-r', '-z', '-l', '--full-tree', tree);
  listing.stdin.end();
  const blobs = new BlobReader(sandbox.start('cat-file', '--batch'));
  for await (const record of records(listing)) {
    sandbox.throwIfStopped();
    yield await toEntry(record, blobs);
    await blobs.skipRest();
  }
  const { code, stderr } = await listing.exit;
  sandbox.throwIfStopped();
  if (code !== 0)
    throw transient('SourceUnavailable', `the fetched repository cannot be listed: ${sandbox.scrub(stderr)}`);
}

async function* records(listing: RunningChild): AsyncGenerator<TreeRecord> {
  const reader = new ByteReader(listing.stdout);
  for (;;) {
    const record = await reader.until(NUL, MAX_RECORD_BYTES);
    if (record === undefined) return;
    const tab = record.indexOf('\t');
    const [mode = '', type = '', id = '', size = ''] = record.subarray(0, tab).toString('latin1').split(/ +/);
    const bytes = record.subarray(tab + 1);
    const path = bytes.toString();
    yield { mode, type, id, size: Number(size), path, isUtf8: bytes.equals(Buffer.from(path)) };
  }
}

async function toEntry({ id, isUtf8, mode, path, size, type }: TreeRecord, blobs: BlobReader): Promise<SourceEntry> {
  if (!isUtf8) return { kind: 'other', path, what: 'name that is not UTF-8' };
  if (type === 'commit') return { kind: 'other', path, what: 'submodule' };
  if (type !== 'blob' || !Number.isSafeInteger(size)) return { kind: 'other', path, what: `${type} of mode ${mode}` };
  if (mode !== '120000') {
    return { kind: 'file', path, executable: mode === '100755', size, content: blobs.read(id, size) };
  }
  if (size > MAX_TARGET_BYTES) return { kind: 'other', path, what: 'link with a target too long' };
  const parts: Uint8Array[] = [];
  for await (const part of blobs.read(id, size)) parts.push(part);
  const target = Buffer.concat(parts);
  const text = target.toString();
  if (!target.equals(Buffer.from(text))) return { kind: 'other', path, what: 'link to a name that is not UTF-8' };
  return { kind: 'link', path, target: text };
}

/** Blobs one after the other out of one `cat-file --batch`. */
class BlobReader {
  readonly #child: RunningChild;
  readonly #reader: ByteReader;
  /** Of the answer that is being read, its final line feed included. */
  #left = 0;

  constructor(child: RunningChild) {
    this.#child = child;
    this.#reader = new ByteReader(child.stdout);
  }

  /** Asked for only when somebody reads it. */
  async *read(id: string, size: number): AsyncGenerator<Uint8Array> {
    await this.skipRest();
    this.#child.stdin.write(`${id}\n`);
    const header = (await this.#reader.until(LINE_FEED, MAX_RECORD_BYTES))?.toString('latin1');
    if (header !== `${id} blob ${size}`) {
      throw transient(
        'SourceUnavailable',
        'a file of the fetched repository is missing or damaged; it is fetched again',
      );
    }
    this.#left = size + 1;
    while (this.#left > 1) {
      const chunk = await this.#reader.some(this.#left - 1);
      this.#left -= chunk.byteLength;
      yield chunk;
    }
  }

  async skipRest(): Promise<void> {
    while (this.#left > 0) this.#left -= (await this.#reader.some(this.#left)).byteLength;
  }
}
