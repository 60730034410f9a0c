import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdir, rename, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { LocalSource } from '../../../../src/adapters/local/local-source.ts';
import { collect } from '../../../support/entries.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { writeTree } from '../../../support/git-repo.ts';
import { tempDir } from '../../../support/temp-dir.ts';
import { parse, resolveOne } from '../../../contract/plugin-source.ts';

const never = new AbortController().signal;

/** Ten seconds later than now, so that what a test has just written has settled. */
const later = (): FakeClock => new FakeClock({ startMs: Date.now() + 10_000 });

async function resolve(dirs: readonly string[], name: string): Promise<string> {
  const source = new LocalSource({ dirs, clock: later() });
  return resolveOne(source, parse(source, name));
}

describe('where it looks', () => {
  it('in order, and the first that has the plugin wins', async () => {
    const [one, two] = [await tempDir(), await tempDir()];
    await writeTree(two, { 'a/f': 'two', 'b/f': 'two' });
    await writeTree(one, { 'a/f': 'one' });
    expect(await resolve([one, two], 'a')).toBe(await resolve([one], 'a'));
    expect(await resolve([one, two], 'b')).toBe(await resolve([two], 'b'));
  });

  it('and says where it looked when there is nothing', async () => {
    const [one, two] = [await tempDir(), await tempDir()];
    await expect(resolve([one, two], 'nope')).rejects.toMatchObject({
      class: 'terminal',
      reason: 'PluginNotFound',
      message: expect.stringContaining(`${one}, ${two}`),
    });
    await expect(resolve([], 'nope')).rejects.toMatchObject({ reason: 'PluginNotFound' });
  });

  it('a registry that is away is not an empty one: the next in line does not take its place', async () => {
    const two = await tempDir();
    await writeTree(two, { 'a/f': 'two' });
    await expect(resolve([join(two, 'unmounted'), two], 'a')).rejects.toMatchObject({
      class: 'transient',
      reason: 'SourceUnavailable',
    });
  });

  it('nowhere outside: links stay inside the registry', async () => {
    const [registry, outside] = [await tempDir(), await tempDir()];
    await writeTree(outside, { 'secret/f': 's' });
    await writeTree(registry, { 'a-v2/f': 'two' });
    await symlink(join(outside, 'secret'), join(registry, 'escape'));
    await symlink('a-v2', join(registry, 'a'));
    await symlink('..', join(registry, 'up'));
    await writeFile(join(registry, 'file'), 'x');
    expect(await resolve([registry], 'a')).toBe(await resolve([registry], 'a-v2'));
    for (const name of ['escape', 'up']) {
      await expect(resolve([registry], name)).rejects.toMatchObject({ class: 'terminal', reason: 'SourceRejected' });
    }
    await expect(resolve([registry], 'file')).rejects.toMatchObject({ reason: 'PluginNotFound' });
  });

  it.each(['..', '.', 'a/b', 'A', '-x', 'a b', "a'b", 'a;b', '$(x)', 'a\\b', '.x', 'x'.repeat(129)])(
    'for names of the grammar only: %s',
    (name) => {
      const source = new LocalSource({ dirs: ['/nowhere'], clock: later() });
      expect(() => parse(source, `local://${name}`)).toThrow(expect.objectContaining({ reason: 'InvalidSource' }));
    },
  );
});

describe('what it hands over', () => {
  it('names what is no file, and leaves .git out', async () => {
    const registry = await tempDir();
    await writeTree(registry, { 'a/f': 'f', 'a/.git/config': 'c', 'a/sub/.git': 'gitdir: x' });
    execFileSync('mkfifo', [join(registry, 'a', 'fifo')]);
    await writeFile(Buffer.concat([Buffer.from(join(registry, 'a/')), Buffer.from([0x62, 0xff])]), 'x');
    const source = new LocalSource({ dirs: [registry], clock: later() });
    const parsed = parse(source, 'a');
    const found = await collect(source.fetch(parsed, await resolveOne(source, parsed), never));
    expect(found).toEqual({ f: 'f', fifo: '! FIFO', 'b\ufffd': '! name that is not UTF-8' });
  });

  it('nothing of a tree over the limits: counted by names, not by reading', async () => {
    const registry = await tempDir();
    await mkdir(join(registry, 'huge'));
    await writeFile(join(registry, 'huge', 'f'), '');
    await truncate(join(registry, 'huge', 'f'), 10 * 1024 ** 3);
    await mkdir(join(registry, 'many'));
    execFileSync('sh', ['-c', 'cd "$1" && seq 1 10001 | xargs touch', 'sh', join(registry, 'many')]);
    const before = bytesRead();
    for (const name of ['huge', 'many']) {
      await expect(resolve([registry], name)).rejects.toMatchObject({ class: 'terminal', reason: 'SourceRejected' });
    }
    expect(bytesRead() - before).toBeLessThan(10 * 1024 * 1024);
  });
});

describe('its revision', () => {
  it('costs no reading while nothing stirs', async () => {
    const registry = await tempDir();
    await writeTree(registry, { 'a/f': Buffer.alloc(5_000_000, 1), 'a/g': 'g' });
    const source = new LocalSource({ dirs: [registry], clock: later() });
    const parsed = parse(source, 'a');
    const revision = await resolveOne(source, parsed);
    const before = bytesRead();
    expect(await resolveOne(source, parsed)).toBe(revision);
    expect(bytesRead() - before).toBeLessThan(1_000_000);
  });

  it('is asked for of each plugin by itself, one after the other, and whoever gives up waits for nobody', async () => {
    const registry = await tempDir();
    await writeTree(registry, { 'big/f': Buffer.alloc(50_000_000, 1), 'a/f': 'a', 'b/f': 'b' });
    const source = new LocalSource({ dirs: [registry], clock: later() });
    const [big, a, b] = [parse(source, 'big'), parse(source, 'a'), parse(source, 'b')];
    expect(new Set([big.group, a.group, b.group]).size).toBe(3);
    const ended: string[] = [];
    const abort = new AbortController();
    const asked = [
      resolveOne(source, big).then(() => ended.push('big')),
      source.resolve([a], abort.signal).catch((error: { class: string }) => ended.push(error.class)),
      resolveOne(source, b).then(() => ended.push('b')),
    ];
    abort.abort();
    await Promise.all(asked);
    expect(ended).toEqual(['aborted', 'big', 'b']);
  });

  it('sees an edit that keeps size and time stamp, and what is younger than the clock can tell', async () => {
    const registry = await tempDir();
    await writeTree(registry, { 'a/f': 'one' });
    const source = new LocalSource({ dirs: [registry], clock: new FakeClock({ startMs: Date.now() }) });
    const parsed = parse(source, 'a');
    const path = join(registry, 'a', 'f');
    await utimes(path, 1000, 1000);
    const seen = new Set<string>();
    for (const content of ['one', 'two', 'six']) {
      await writeFile(path, content);
      await utimes(path, 1000, 1000);
      seen.add(await resolveOne(source, parsed));
    }
    expect(seen.size).toBe(3);
  });

  it('is the content’s: a copy elsewhere has the same, a move inside another', async () => {
    const [one, two] = [await tempDir(), await tempDir()];
    for (const registry of [one, two]) await writeTree(registry, { 'a/f': 'f', 'a/l': { link: 'f' } });
    const revision = await resolve([one], 'a');
    expect(await resolve([two], 'a')).toBe(revision);
    await rename(join(two, 'a', 'f'), join(two, 'a', 'g'));
    expect(await resolve([two], 'a')).not.toBe(revision);
  });

  it('no longer fits when the directory changes in the middle of a fetch', async () => {
    const registry = await tempDir();
    await writeTree(registry, { 'a/f': 'f', 'a/g': 'g' });
    const source = new LocalSource({ dirs: [registry], clock: later() });
    const parsed = parse(source, 'a');
    const entries = source.fetch(parsed, await resolveOne(source, parsed), never)[Symbol.asyncIterator]();
    await entries.next();
    await writeFile(join(registry, 'a', 'h'), 'new');
    await entries.next();
    await expect(entries.next()).rejects.toMatchObject({ class: 'transient', reason: 'SourceUnavailable' });
  });
});

/** What this process has read so far through system calls, cached or not. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);
}
