import { readdir, readFile, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { DiskScratchSpace } from '../../../src/adapters/system/disk-scratch-space.ts';
import { transient } from '../../../src/domain/errors.ts';
import { ArtifactCache, type ArtifactCacheOptions } from '../../../src/plugins/artifact-cache.ts';
import type { Artifact } from '../../../src/ports/artifacts.ts';
import type { ParsedSource, SourceEntry } from '../../../src/ports/plugin-source.ts';
import { fileEntry, linkEntry, parsedSource, text } from '../../support/entries.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics, type RecordingMetrics } from '../../support/recording-metrics.ts';
import { everythingIn, tempDir } from '../../support/temp-dir.ts';

/** A source whose every fetch is counted and can be held up. */
class CountingSource {
  readonly fetches: string[] = [];
  readonly ended: string[] = [];
  entries: (name: string, revision: string) => Iterable<SourceEntry> = (name, revision) => [
    fileEntry('f', `${name}@${revision}`),
  ];
  hold: Promise<void> = Promise.resolve();

  async *fetch(source: ParsedSource, revision: string, signal: AbortSignal): AsyncGenerator<SourceEntry> {
    const label = `${source.subPath}@${revision}`;
    this.fetches.push(label);
    try {
      await Promise.race([
        this.hold,
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error))),
      ]);
      yield* this.entries(source.subPath, revision);
    } finally {
      this.ended.push(label);
    }
  }
}

interface Setup {
  readonly dir: string;
  readonly source: CountingSource;
  readonly clock: FakeClock;
  readonly metrics: RecordingMetrics;
  open(options?: Partial<ArtifactCacheOptions>): Promise<ArtifactCache>;
}

async function setup(): Promise<Setup> {
  const dir = await tempDir();
  const source = new CountingSource();
  const clock = new FakeClock({ startMs: Date.now() });
  const metrics = recordingMetrics();
  const open = async (options: Partial<ArtifactCacheOptions> = {}): Promise<ArtifactCache> =>
    ArtifactCache.open({
      dir,
      scratch: await DiskScratchSpace.open(join(dir, 'tmp'), clock),
      fetch: (...args) => source.fetch(...args),
      clock,
      logger: new RecordingLogger(),
      metrics,
      ...options,
    });
  return { dir, source, clock, metrics, open };
}

const never = new AbortController().signal;

async function contents(artifact: Artifact): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { file, content } of artifact.open()) found[file.path] = await text(content);
  return found;
}

async function trees(dir: string): Promise<readonly string[]> {
  return (await readdir(join(dir, 'trees'))).map((name) => `sha256:${name.replace('.tar', '')}`).toSorted();
}

describe('what it hands out', () => {
  it('is the tree: files, lists, manifest, sizes, and contents as often as wanted', async () => {
    const { open, source } = await setup();
    source.entries = () => [
      fileEntry('plugin.yaml', 'name: p\nversion: 1.10\n'),
      fileEntry('run', 'go', true),
      linkEntry('also', 'run'),
      fileEntry(`${'deep/'.repeat(25)}x`, 'deep'),
      fileEntry('big', Buffer.alloc(200_000, 7)),
      fileEntry('empty', ''),
    ];
    const artifact = await (await open()).get(parsedSource('p'), 'r1', never);
    expect(artifact.files.map((file) => file.path)).toEqual([
      'also',
      'big',
      `${'deep/'.repeat(25)}x`,
      'empty',
      'plugin.yaml',
      'run',
    ]);
    expect(artifact.lists.executables).toBe('also\nrun\n');
    expect(artifact.manifest).toEqual({ name: 'p', version: '1.10' });
    expect(artifact.contentBytes).toBe(200_000 + 2 + 2 + 4 + 22);
    const once = await contents(artifact);
    expect(once['also']).toBe('go');
    expect(once[`${'deep/'.repeat(25)}x`]).toBe('deep');
    expect(once['big']).toBe('\u0007'.repeat(200_000));
    expect(await contents(artifact)).toEqual(once);
  });

  it('can be read in part, skipped over and left', async () => {
    const { open, source } = await setup();
    source.entries = () => ['a', 'b', 'c'].map((name) => fileEntry(name, Buffer.alloc(150_000, name)));
    const artifact = await (await open()).get(parsedSource('p'), 'r1', never);
    const seen: string[] = [];
    for await (const { file, content } of artifact.open()) {
      if (file.path === 'a') continue;
      for await (const chunk of content) {
        seen.push(`${file.path}${String.fromCodePoint(chunk[0] ?? 0)}`);
        break;
      }
      if (file.path === 'c') break;
    }
    expect(seen).toEqual(['bb', 'cc']);
  });
});

describe('fetches', () => {
  it('once, however many callers ask at the same time, and never again', async () => {
    const { open, source, metrics } = await setup();
    const cache = await open();
    const artifacts = await Promise.all(
      Array.from({ length: 50 }, () => cache.get(parsedSource('p'), 'r1', new AbortController().signal)),
    );
    expect(new Set(artifacts).size).toBe(1);
    await cache.get(parsedSource('p'), 'r1', never);
    expect(source.fetches).toEqual(['p@r1']);
    expect(metrics.argsOf('artifact')).toEqual([
      ['miss', 4],
      ['hit', 4],
    ]);
    expect(cache.peek(parsedSource('p'), 'r1')).toBe(artifacts[0]);
    expect(cache.peek(parsedSource('p'), 'r2')).toBeUndefined();
  });

  it('once for two refs at one revision', async () => {
    const { open, source } = await setup();
    const cache = await open();
    await cache.get({ ...parsedSource('p'), selector: 'main' }, 'r1', never);
    await cache.get({ ...parsedSource('p'), selector: 'tag:v1' }, 'r1', never);
    expect(source.fetches).toEqual(['p@r1']);
  });

  it('again after a restart only what is not on disk', async () => {
    const { open, source } = await setup();
    const before = await (await open()).get(parsedSource('p'), 'r1', never);
    const after = await (await open()).get(parsedSource('p'), 'r1', never);
    expect(after).toEqual({ ...before, open: expect.any(Function) });
    expect(source.fetches).toEqual(['p@r1']);
  });

  it('go on for the others when one caller gives up', async () => {
    const { open, source } = await setup();
    let release = (): void => undefined;
    source.hold = new Promise((resolve) => (release = resolve));
    const cache = await open();
    const impatient = new AbortController();
    const given = cache.get(parsedSource('p'), 'r1', impatient.signal);
    const patient = cache.get(parsedSource('p'), 'r1', never);
    impatient.abort();
    await expect(given).rejects.toMatchObject({ class: 'aborted' });
    release();
    await expect(patient).resolves.toMatchObject({ contentBytes: 4 });
    expect(source.fetches).toEqual(['p@r1']);
  });

  it('go on when the last caller gives up, for the next', async () => {
    const { open, source } = await setup();
    let release = (): void => undefined;
    source.hold = new Promise((resolve) => (release = resolve));
    const cache = await open();
    const abort = new AbortController();
    const given = cache.get(parsedSource('p'), 'r1', abort.signal);
    await expect.poll(() => source.fetches).toEqual(['p@r1']);
    abort.abort();
    await expect(given).rejects.toMatchObject({ class: 'aborted' });
    const next = cache.get(parsedSource('p'), 'r1', never);
    release();
    await expect(next).resolves.toMatchObject({ contentBytes: 4 });
    expect(source.fetches).toEqual(['p@r1']);
  });

  it('of many plugins at once are no leak', async () => {
    const { open } = await setup();
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.name);
    process.on('warning', onWarning);
    const cache = await open();
    const get = (n: number): Promise<Artifact> => cache.get(parsedSource(`p${n}`), 'r1', new AbortController().signal);
    await Promise.all(Array.from({ length: 20 }, (_, n) => get(n)));
    await new Promise(setImmediate);
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  it('that fail are told to everybody who waited and not remembered', async () => {
    const { dir, open, source } = await setup();
    const entries = source.entries;
    source.entries = () => {
      throw transient('SourceUnavailable', 'the forge is down');
    };
    const cache = await open();
    const results = await Promise.allSettled([1, 2].map(() => cache.get(parsedSource('p'), 'r1', never)));
    expect(results).toMatchObject([1, 2].map(() => ({ status: 'rejected', reason: { reason: 'SourceUnavailable' } })));
    source.entries = entries;
    await cache.get(parsedSource('p'), 'r1', never);
    expect(source.fetches).toHaveLength(2);
    expect(await everythingIn(join(dir, 'tmp'))).toEqual([]);
  });

  it('of refused content leave nothing', async () => {
    const { dir, open, source } = await setup();
    source.entries = () => [fileEntry('ok'), linkEntry('l', '/etc/passwd')];
    await expect((await open()).get(parsedSource('p'), 'r1', never)).rejects.toMatchObject({
      reason: 'SourceRejected',
    });
    expect(await everythingIn(dir)).toEqual(['index', 'tmp', 'trees']);
  });

  it('end when the cache is closed, and leave nothing', async () => {
    const { dir, open, source } = await setup();
    source.hold = new Promise(() => undefined);
    const cache = await open();
    const given = cache.get(parsedSource('p'), 'r1', never).catch((error: unknown) => error);
    await expect.poll(() => source.fetches).toEqual(['p@r1']);
    await cache.close();
    expect(await given).toMatchObject({ class: 'aborted' });
    expect(source.ended).toEqual(['p@r1']);
    expect(await everythingIn(join(dir, 'tmp'))).toEqual([]);
  });
});

describe('a damaged disk', () => {
  it.each([
    ['a flipped byte', (path: string) => flipByte(path, 512)],
    ['a torn file', (path: string) => truncate(path, 700)],
    ['an empty file', (path: string) => truncate(path, 0)],
    ['a lost file', (path: string) => rm(path)],
    ['something else', (path: string) => writeFile(path, 'x'.repeat(5000))],
  ])('%s is seen after a restart and healed by a fetch', async (_name, damage) => {
    const { dir, open, source } = await setup();
    const artifact = await (await open()).get(parsedSource('p'), 'r1', never);
    const next = await open();
    await damage(join(dir, 'trees', `${artifact.digest.slice(7)}.tar`));
    const healed = await next.get(parsedSource('p'), 'r1', never);
    expect(await contents(healed)).toEqual({ f: 'p@r1' });
    expect(source.fetches).toEqual(['p@r1', 'p@r1']);
  });

  it.each([
    ['a flipped byte', (path: string) => flipByte(path, 512)],
    ['a torn file', (path: string) => truncate(path, 513)],
    ['a lost file', (path: string) => rm(path)],
  ])('%s under a running process is never handed out as content', async (_name, damage) => {
    const { dir, open } = await setup();
    const cache = await open();
    const artifact = await cache.get(parsedSource('p'), 'r1', never);
    await damage(join(dir, 'trees', `${artifact.digest.slice(7)}.tar`));
    await expect(contents(artifact)).rejects.toMatchObject({ class: 'transient', reason: 'Internal' });
    expect(await contents(await cache.get(parsedSource('p'), 'r1', never))).toEqual({ f: 'p@r1' });
  });

  it('an index entry that is torn leads to a fetch, not to a fault', async () => {
    const { dir, open, source } = await setup();
    await (await open()).get(parsedSource('p'), 'r1', never);
    const [name] = await readdir(join(dir, 'index'));
    await truncate(join(dir, 'index', name ?? ''), 10);
    await (await open()).get(parsedSource('p'), 'r1', never);
    expect(source.fetches).toHaveLength(2);
  });

  it('says which directory cannot be written', async () => {
    const { dir, open } = await setup();
    const cache = await open();
    await rm(join(dir, 'tmp'), { recursive: true });
    await expect(cache.get(parsedSource('p'), 'r1', never)).rejects.toMatchObject({
      class: 'transient',
      reason: 'CacheUnavailable',
      message: expect.stringContaining(dir),
    });
  });
});

async function flipByte(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

describe('room', () => {
  const big = (name: string): Iterable<SourceEntry> => [fileEntry('f', Buffer.alloc(10_000, name))];
  const archiveBytes = 12_288;

  it('is made by the least recently used that nobody can still be about to open', async () => {
    const { clock, dir, open, source, metrics } = await setup();
    source.entries = big;
    const cache = await open({ maxBytes: 2.5 * archiveBytes });
    const digests: Record<string, string> = {};
    for (const name of ['a', 'b', 'c']) {
      digests[name] = (await cache.get(parsedSource(name), 'r', never)).digest;
      await clock.advance(1000);
    }
    // All three were handed out seconds ago: over the cap, and nothing goes.
    expect(await trees(dir)).toHaveLength(3);
    await clock.advance(3_600_000);
    await cache.get(parsedSource('a'), 'r', never);
    digests['d'] = (await cache.get(parsedSource('d'), 'r', never)).digest;
    expect(await trees(dir)).toEqual([digests['a'], digests['d']].map(String).toSorted());
    expect(await readdir(join(dir, 'index'))).toHaveLength(2);
    expect(metrics.argsOf('artifact').filter(([event]) => event === 'evicted')).toHaveLength(2);
    await cache.get(parsedSource('b'), 'r', never);
    expect(source.fetches).toEqual(['a@r', 'b@r', 'c@r', 'd@r', 'b@r']);
  });

  it('is not made of what is being read', async () => {
    const { clock, dir, open, source } = await setup();
    source.entries = big;
    const cache = await open({ maxBytes: archiveBytes });
    const artifact = await cache.get(parsedSource('a'), 'r', never);
    const reading = artifact.open()[Symbol.asyncIterator]();
    await reading.next();
    await clock.advance(3_600_000);
    await cache.get(parsedSource('b'), 'r', never);
    expect(await trees(dir)).toContain(artifact.digest);
    await reading.return?.();
    await clock.advance(3_600_000);
    const last = await cache.get(parsedSource('c'), 'r', never);
    expect(await trees(dir)).toEqual([last.digest]);
  });

  it('remembers the order of use over a restart', async () => {
    const { clock, dir, open, source } = await setup();
    source.entries = big;
    const digests: Record<string, string> = {};
    const first = await open();
    for (const name of ['a', 'b']) digests[name] = (await first.get(parsedSource(name), 'r', never)).digest;
    const old = clock.now() / 1000 - 7200;
    await utimes(join(dir, 'trees', `${digests['a']?.slice(7)}.tar`), old, old);
    await clock.advance(3_600_000);
    const second = await open({ maxBytes: 2.5 * archiveBytes });
    digests['c'] = (await second.get(parsedSource('c'), 'r', never)).digest;
    expect(await trees(dir)).toEqual([digests['b'], digests['c']].map(String).toSorted());
  });
});

describe('a crash in the middle', () => {
  it('leaves scratch only, which the next start sweeps; a living neighbour’s stays', async () => {
    const { dir, open, clock } = await setup();
    await open();
    const scratch = await DiskScratchSpace.open(join(dir, 'tmp'), clock);
    const { path } = await scratch.create();
    await writeFile(join(path, 'spool'), 'half');
    const neighbour = path.replace(`.${process.pid}.`, `.${process.ppid}.`);
    await (await import('node:fs/promises')).mkdir(neighbour);
    await open();
    expect(await everythingIn(join(dir, 'tmp'))).toEqual([neighbour.slice(join(dir, 'tmp').length + 1)]);
    await expect(stat(path)).rejects.toMatchObject({ code: 'ENOENT' });
    await clock.advance(2 * 3_600_000);
    await open();
    expect(await everythingIn(join(dir, 'tmp'))).toEqual([]);
  });
});

describe('a cache that cannot be used', () => {
  it('is counted, and that is not blamed on the source', async () => {
    const { dir, metrics, open, source } = await setup();
    const cache = await open();
    await rm(join(dir, 'tmp'), { recursive: true });
    await expect(cache.get(parsedSource('a'), '1', never)).rejects.toMatchObject({
      class: 'transient',
      reason: 'CacheUnavailable',
      message: `the artifact cache in ${join(dir, 'tmp')} cannot be used (ENOENT)`,
    });
    expect(metrics.argsOf('artifactsUnusable')).toHaveLength(1);
    source.entries = () => {
      throw transient('SourceUnavailable', 'the forge is down');
    };
    await open();
    await expect(cache.get(parsedSource('a'), '1', never)).rejects.toMatchObject({ reason: 'SourceUnavailable' });
    expect(metrics.argsOf('artifactsUnusable')).toHaveLength(1);
    await cache.close();
  });
});
