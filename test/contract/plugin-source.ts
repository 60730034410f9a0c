import { describe, expect, it } from 'vitest';

import { parseSourceRef } from '../../src/domain/source.ts';
import type { ParsedSource, PluginSource } from '../../src/ports/plugin-source.ts';
import { collect, text } from '../support/entries.ts';
import type { TestFile } from '../support/git-repo.ts';

/** One place of one source, with a plugin in it that can be published anew. */
export interface PluginSourcePlace {
  readonly source: PluginSource;
  /** Makes these files the newest state of the plugin. */
  publish(files: Readonly<Record<string, TestFile>>): Promise<void>;
  /** Source text that follows the newest state. */
  readonly following: string;
  /** Text of the same place that means something there is not. */
  readonly missing: string;
  /** A text of this scheme that breaks its grammar. */
  readonly malformed: string;
  /** Everything that is lying about in the scratch space of this source. */
  leftovers(): Promise<readonly string[]>;
  /** Whether an old revision can be had after a new one was published. */
  readonly keepsHistory: boolean;
}

export interface PluginSourceHarness {
  /** A place of its own for one test; cleans up after it. */
  create(): Promise<PluginSourcePlace>;
}

const never = new AbortController().signal;

/** What every source of plugins does; see the port. */
export function describePluginSource(name: string, harness: PluginSourceHarness): void {
  describe(`PluginSource: ${name}`, () => {
    const FIRST = {
      'plugin.yaml': 'name: p\n',
      'bin/run': { executable: '#!/bin/sh\n' },
      'docs/a.md': 'first',
    } as const;

    async function published(
      files: Readonly<Record<string, TestFile>> = FIRST,
    ): Promise<PluginSourcePlace & { parsed: ParsedSource; revision: string }> {
      const place = await harness.create();
      await place.publish(files);
      const parsed = parse(place.source, place.following);
      return { ...place, parsed, revision: await resolveOne(place.source, parsed) };
    }

    it('parses its own schemes, purely, and keeps the text', async () => {
      const { source, following, malformed } = await harness.create();
      const parsed = parse(source, following);
      expect(parsed).toEqual(parse(source, following));
      expect(source.schemes).toContain(parsed.ref.scheme);
      expect(parsed.ref.text).toContain('://');
      expect(parsed.pinned).toBe(false);
      expect(() => parse(source, malformed)).toThrow(
        expect.objectContaining({ class: 'terminal', reason: 'InvalidSource' }),
      );
    });

    it('resolves to the same revision until something new is published', async () => {
      const { source, parsed, publish, revision } = await published();
      expect(revision).toMatch(/^(sha256:[0-9a-f]{64}|[0-9a-f]{40}|[0-9a-f]{64})$/);
      expect(await resolveOne(source, parsed)).toBe(revision);
      await publish({ ...FIRST, 'docs/a.md': 'other' });
      const next = await resolveOne(source, parsed);
      expect(next).not.toBe(revision);
      await publish({ ...FIRST, 'docs/a.md': 'other', 'bin/run': '#!/bin/sh\n' });
      expect(await resolveOne(source, parsed)).not.toBe(next);
    });

    it('answers for each it is asked about, and the error of one is its own', async () => {
      const { source, parsed, revision, missing } = await published();
      const absent = parse(source, missing);
      expect(absent.selector).not.toBe(parsed.selector);
      const answers = await source.resolve([absent, parsed], never);
      expect(answers.get(parsed)).toBe(revision);
      expect(answers.get(absent)).toMatchObject({ class: 'terminal', reason: 'PluginNotFound' });
    });

    it('hands over every file with its content, bit and link, and cleans up', async () => {
      const { source, parsed, revision, leftovers } = await published({
        ...FIRST,
        empty: '',
        'bytes.bin': Buffer.from(Array.from({ length: 100_000 }, (_, at) => (at * 7) % 256)),
        'name with space': 'x',
        'ünï/cödé.md': 'u',
        '-dash': 'd',
        'link.md': { link: 'docs/a.md' },
        'linked-dir': { link: 'docs' },
      });
      const found = await collect(source.fetch(parsed, revision, never));
      expect(Object.keys(found).toSorted()).toEqual(
        [
          '-dash',
          'bin/run',
          'bytes.bin',
          'docs/a.md',
          'empty',
          'link.md',
          'linked-dir',
          'name with space',
          'plugin.yaml',
          'ünï/cödé.md',
        ].toSorted(),
      );
      expect(found).toMatchObject({
        'bin/run': 'x #!/bin/sh\n',
        'docs/a.md': 'first',
        empty: '',
        'link.md': '-> docs/a.md',
        'linked-dir': '-> docs',
        'ünï/cödé.md': 'u',
      });
      expect(await leftovers()).toEqual([]);
    });

    it('lets contents be skipped, and cleans up after a caller that stops early', async () => {
      const { source, parsed, revision, leftovers } = await published({
        a: Buffer.alloc(300_000, 1),
        b: Buffer.alloc(300_000, 2),
        c: 'c',
      });
      const seen: string[] = [];
      for await (const entry of source.fetch(parsed, revision, never)) {
        seen.push(entry.path);
        if (entry.kind === 'file' && entry.path === 'c') expect(await text(entry.content)).toBe('c');
        if (entry.kind === 'file' && entry.path === 'b') for await (const _chunk of entry.content) break;
      }
      expect(seen.toSorted()).toEqual(['a', 'b', 'c']);
      for await (const _entry of source.fetch(parsed, revision, never)) break;
      expect(await leftovers()).toEqual([]);
    });

    it('never passes new content off as an old revision', async () => {
      const { source, parsed, publish, revision, keepsHistory } = await published();
      await publish({ 'docs/a.md': 'second' });
      const old = collect(source.fetch(parsed, revision, never));
      if (keepsHistory) expect(await old).toMatchObject({ 'docs/a.md': 'first' });
      else await expect(old).rejects.toMatchObject({ class: 'transient', reason: 'SourceUnavailable' });
    });

    it('refuses a revision that never was', async () => {
      const { source, parsed, revision, leftovers } = await published();
      const unknown = revision.replace(/[0-9a-f]{8}$/, '01234567');
      await expect(collect(source.fetch(parsed, unknown, never))).rejects.toMatchObject({
        reason: expect.stringMatching(/^(PluginNotFound|SourceUnavailable)$/),
      });
      expect(await leftovers()).toEqual([]);
    });

    it('serves many at a time', async () => {
      const { source, parsed, revision, leftovers } = await published();
      const results = await Promise.all(
        Array.from({ length: 6 }, () => collect(source.fetch(parsed, revision, never))),
      );
      for (const result of results) expect(result).toMatchObject({ 'docs/a.md': 'first' });
      expect(await leftovers()).toEqual([]);
    });

    it('stops when it is told to, at any moment', async () => {
      const { source, parsed, revision, leftovers } = await published({ a: Buffer.alloc(300_000, 1), b: 'b' });
      const early = new AbortController();
      early.abort();
      await expect(source.resolve([parsed], early.signal)).rejects.toMatchObject({ class: 'aborted' });
      await expect(collect(source.fetch(parsed, revision, early.signal))).rejects.toMatchObject({ class: 'aborted' });
      const late = new AbortController();
      const entries = source.fetch(parsed, revision, late.signal)[Symbol.asyncIterator]();
      expect((await entries.next()).done).toBe(false);
      late.abort();
      await expect(entries.next()).rejects.toMatchObject({ class: 'aborted' });
      expect(await leftovers()).toEqual([]);
    });
  });
}

export function parse(source: PluginSource, sourceText: string): ParsedSource {
  const ref = parseSourceRef(sourceText);
  if (ref === undefined) throw new Error(`${sourceText} is no source`);
  return source.parse(ref);
}

/** Throws the error of a source that does not resolve. */
export async function resolveOne(source: PluginSource, parsed: ParsedSource): Promise<string> {
  const answer = (await source.resolve([parsed], never)).get(parsed);
  if (typeof answer === 'string') return answer;
  throw answer ?? new Error('no answer');
}
