import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';

import { DEFAULT_ARCHIVE_LIMITS, type ArchiveLimits } from '../../../src/domain/archive.ts';
import { packTree, type PackedTree } from '../../../src/plugins/pack.ts';
import type { SourceEntry } from '../../../src/ports/plugin-source.ts';
import { fileEntry, linkEntry, stream } from '../../support/entries.ts';
import { everythingIn, tempDir } from '../../support/temp-dir.ts';

async function pack(
  entries: Iterable<SourceEntry> | AsyncIterable<SourceEntry>,
  limits: Partial<ArchiveLimits> = {},
): Promise<PackedTree & { dir: string }> {
  const dir = await tempDir();
  const source = Symbol.asyncIterator in entries ? entries : stream(entries);
  const options = { dir, limits: { ...DEFAULT_ARCHIVE_LIMITS, ...limits }, signal: new AbortController().signal };
  return { ...(await packTree(source, options)), dir };
}

function list({ path }: PackedTree): string[] {
  return execFileSync('tar', ['-tf', path], { encoding: 'utf8' }).trim().split('\n');
}

describe('the canonical tar', () => {
  it('has equal bytes and an equal digest whatever the order of entries', async () => {
    const entries = (): SourceEntry[] => [
      fileEntry('b/c.sh', '#!/bin/sh\n', true),
      fileEntry('a.md'),
      fileEntry('empty', ''),
      fileEntry('é/ü.txt'),
      fileEntry('B'),
      fileEntry(`${'long/'.repeat(30)}name`),
    ];
    const one = await pack(entries());
    const other = await pack(entries().toReversed());
    expect(one.digest).toBe(other.digest);
    expect(await readFile(one.path)).toEqual(await readFile(other.path));
    expect(await everythingIn(one.dir)).toEqual(['tree.tar']);
  });

  it('is sorted by bytes, owned by nobody, dated 1970, 644 or 755', async () => {
    const packed = await pack([
      fileEntry('z'),
      fileEntry('a', 'x', true),
      fileEntry('Z'),
      fileEntry('a-'),
      fileEntry('a.d/x'),
    ]);
    const lines = execFileSync('tar', ['--numeric-owner', '--utc', '-tvf', packed.path], { encoding: 'utf8' });
    expect(
      lines
        .trim()
        .split('\n')
        .map((line) => line.replaceAll(/ +/g, ' ')),
    ).toEqual([
      '-rw-r--r-- 0/0 1 1970-01-01 00:00 Z',
      '-rwxr-xr-x 0/0 1 1970-01-01 00:00 a',
      '-rw-r--r-- 0/0 2 1970-01-01 00:00 a-',
      '-rw-r--r-- 0/0 5 1970-01-01 00:00 a.d/x',
      '-rw-r--r-- 0/0 1 1970-01-01 00:00 z',
    ]);
  });

  it('can be checked by hand', async () => {
    const packed = await pack([fileEntry('one', '1'), fileEntry('two', '2', true)]);
    const hex = (text: string): string => createHash('sha256').update(text).digest('hex');
    const files = `${hex('1')}  one\n${hex('2')}  two\n`;
    expect(packed.digest).toBe(`sha256:${hex(`${hex(files)}\n${hex('two\n')}\n`)}`);
  });

  it('keeps case duplicates apart and leaves version control out', async () => {
    const packed = await pack([
      fileEntry('README'),
      fileEntry('readme'),
      fileEntry('.git/config'),
      fileEntry('sub/.git'),
      fileEntry('.gitignore'),
      { kind: 'other', path: '.git/fsmonitor', what: 'socket' },
    ]);
    expect(list(packed)).toEqual(['.gitignore', 'README', 'readme']);
  });
});

describe('links', () => {
  it('become copies: files, directories, chains, through links, with dots', async () => {
    const packed = await pack([
      fileEntry('real/run.sh', 'run', true),
      fileEntry('real/deep/x', 'x'),
      linkEntry('file', 'real/run.sh'),
      linkEntry('dir', './real/'),
      linkEntry('chain', 'dir/deep/../run.sh'),
      linkEntry('real/deep/up', '../run.sh'),
      linkEntry('nested/link', '../dir/deep'),
    ]);
    expect(list(packed)).toEqual([
      'chain',
      'dir/deep/up',
      'dir/deep/x',
      'dir/run.sh',
      'file',
      'nested/link/up',
      'nested/link/x',
      'real/deep/up',
      'real/deep/x',
      'real/run.sh',
    ]);
    const same = await pack([
      ...['chain', 'dir/deep/up', 'dir/run.sh', 'file', 'nested/link/up', 'real/deep/up', 'real/run.sh'].map((path) =>
        fileEntry(path, 'run', true),
      ),
      ...['dir/deep/x', 'nested/link/x', 'real/deep/x'].map((path) => fileEntry(path, 'x')),
    ]);
    expect(packed.digest).toBe(same.digest);
  });

  it.each([
    ['absolute', [linkEntry('l', '/etc/passwd')]],
    ['out and away', [linkEntry('l', '../secret')]],
    ['out and back in', [linkEntry('d/l', '../../plugin/f')]],
    ['out through a link', [linkEntry('d/up', '..'), linkEntry('l', 'd/up/../../x')]],
    ['dangling', [linkEntry('l', 'nowhere')]],
    ['into version control', [fileEntry('.git/config'), linkEntry('l', '.git/config')]],
    ['through a file', [linkEntry('l', 'f/x')]],
    ['with a slash after a file', [linkEntry('l', 'f/')]],
    ['to itself', [linkEntry('l', 'l')]],
    ['to each other', [linkEntry('a', 'b'), linkEntry('b', 'a')]],
    ['to the root', [linkEntry('l', '.')]],
    ['to a parent', [linkEntry('d/l', '..')]],
    ['to each other’s directory', [linkEntry('a/l', '../b'), linkEntry('b/l', '../a')]],
    ['empty', [linkEntry('l', '')]],
    ['long', [linkEntry('l', './'.repeat(3000))]],
    ['41 deep', Array.from({ length: 41 }, (_, at) => linkEntry(`l${at}`, at === 40 ? 'f' : `l${at + 1}`))],
  ])('are refused when %s', async (_name, entries) => {
    await expect(pack([fileEntry('f'), ...entries])).rejects.toMatchObject({
      class: 'terminal',
      reason: 'SourceRejected',
    });
  });

  it('that multiply at every level are refused before they do', async () => {
    const levels = Array.from({ length: 30 }, (_, at) => [
      linkEntry(`d${at}/a`, `../d${at + 1}`),
      linkEntry(`d${at}/b`, `../d${at + 1}`),
    ]).flat();
    const bomb = pack([...levels, fileEntry('d30/f')]);
    await expect(bomb).rejects.toMatchObject({
      reason: 'SourceRejected',
      message: expect.stringContaining('more than 10000 entries'),
    });
  });

  it('count the bytes of their copies', async () => {
    const entries = [fileEntry('f', Buffer.alloc(600)), linkEntry('g', 'f')];
    await expect(pack(entries, { maxBytes: 1000 })).rejects.toMatchObject({ reason: 'SourceRejected' });
  });
});

describe('refused', () => {
  it.each([
    ['absolute', '/etc/passwd'],
    ['leaving', '../x'],
    ['leaving from inside', 'a/../../x'],
    ['a dot', 'a/./b'],
    ['an empty segment', 'a//b'],
    ['nothing', ''],
    ['a directory', 'a/'],
    ['newline', 'a\nb'],
    ['NUL', 'a\0b'],
    ['escape', 'a\u001b[2Jb'],
    ['C1 control', 'a\u009bb'],
    ['backslash', 'a\\b'],
    ['half a surrogate', 'a\ud800b'],
    ['1025 bytes', `${'d/'.repeat(20)}${'é'.repeat(493)}`],
    ['256 bytes in a segment', 'x'.repeat(256)],
    ['33 levels', `${'d/'.repeat(32)}f`],
  ])('paths: %s', async (_name, path) => {
    for (const entry of [fileEntry(path), linkEntry(path, 'ok')]) {
      const error: unknown = await pack([fileEntry('ok'), entry]).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ class: 'terminal', reason: 'SourceRejected' });
      expect((error as Error).message).not.toMatch(/\p{Cc}/u);
    }
  });

  it('the same path twice, and a path through a file', async () => {
    await expect(pack([fileEntry('a'), fileEntry('a')])).rejects.toMatchObject({ reason: 'SourceRejected' });
    await expect(pack([fileEntry('a'), fileEntry('a/b')])).rejects.toMatchObject({ reason: 'SourceRejected' });
    await expect(pack([fileEntry('a/b'), linkEntry('a', 'c')])).rejects.toMatchObject({ reason: 'SourceRejected' });
    await expect(pack([fileEntry('c/d'), linkEntry('a', 'c'), fileEntry('a/b')])).rejects.toMatchObject({
      reason: 'SourceRejected',
    });
  });

  it('devices and the like, by their name', async () => {
    const device: SourceEntry = { kind: 'other', path: 'dev', what: 'block device' };
    await expect(pack([fileEntry('a'), device])).rejects.toMatchObject({
      reason: 'SourceRejected',
      message: expect.stringContaining('"dev" is a block device'),
    });
  });

  it('a tree without files', async () => {
    await expect(pack([])).rejects.toMatchObject({ reason: 'SourceRejected' });
    await expect(pack([fileEntry('.git/config')])).rejects.toMatchObject({ reason: 'SourceRejected' });
  });

  it('content that is not as long as it claims: it changed while it was read', async () => {
    for (const size of [3, 5]) {
      const lying = { ...fileEntry('a', 'four'), size } as SourceEntry;
      await expect(pack([lying])).rejects.toMatchObject({ class: 'transient', reason: 'SourceUnavailable' });
    }
  });
});

describe('hostile amounts', () => {
  it('a million entries: the first one too many ends it, and the source is told', async () => {
    let asked = 0;
    let isClosed = false;
    async function* endless(): AsyncGenerator<SourceEntry> {
      try {
        for (; asked < 1_000_000; asked += 1) yield await Promise.resolve(fileEntry(`f${asked}`));
      } finally {
        isClosed = true;
      }
    }
    const dir = await tempDir();
    const options = { dir, limits: DEFAULT_ARCHIVE_LIMITS, signal: new AbortController().signal };
    await expect(packTree(endless(), options)).rejects.toMatchObject({ reason: 'SourceRejected' });
    expect(asked).toBe(10_000);
    expect(isClosed).toBe(true);
    expect(await everythingIn(dir)).toEqual([]);
  });

  it('10 GB that are announced: nothing is read', async () => {
    let read = 0;
    async function* zeros(): AsyncGenerator<Uint8Array> {
      for (;;) {
        read += 1;
        yield await Promise.resolve(new Uint8Array(65_536));
      }
    }
    const huge: SourceEntry = { kind: 'file', path: 'f', executable: false, size: 10 * 1024 ** 3, content: zeros() };
    await expect(pack([huge])).rejects.toMatchObject({ reason: 'SourceRejected' });
    expect(read).toBe(0);
  });

  it('content that never ends: stopped at the size it claimed, memory flat, disk empty', async () => {
    const chunk = new Uint8Array(65_536);
    const claimed = 60 * 1024 * 1024;
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        given += chunk.byteLength;
        yield await Promise.resolve(chunk);
      }
    }
    const dir = await tempDir();
    const options = { dir, limits: DEFAULT_ARCHIVE_LIMITS, signal: new AbortController().signal };
    const entry: SourceEntry = { kind: 'file', path: 'f', executable: false, size: claimed, content: endless() };
    const before = process.memoryUsage().arrayBuffers;
    await expect(packTree(stream([entry]), options)).rejects.toMatchObject({ reason: 'SourceUnavailable' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * 1024 * 1024);
    expect(given).toBe(claimed + chunk.byteLength);
    expect(await everythingIn(dir)).toEqual([]);
  });

  it('an abort in the middle leaves nothing', async () => {
    const abort = new AbortController();
    async function* entries(): AsyncGenerator<SourceEntry> {
      yield await Promise.resolve(fileEntry('a'));
      abort.abort(new Error('enough'));
      yield fileEntry('b');
    }
    const dir = await tempDir();
    const options = { dir, limits: DEFAULT_ARCHIVE_LIMITS, signal: abort.signal };
    await expect(packTree(entries(), options)).rejects.toThrow('enough');
    expect(await everythingIn(dir)).toEqual([]);
  });
});
