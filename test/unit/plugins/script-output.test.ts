import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { sha256 } from '../../../src/domain/digest.ts';
import type { PluginName } from '../../../src/domain/name.ts';
import { treeDigestOf } from '../../../src/domain/tree.ts';
import { parseScriptOutput } from '../../../src/plugins/script-output.ts';

const NONCE = 'b2f0';
const END = `end ${NONCE} 0 Succeeded`;
const NONE: ReadonlySet<PluginName> = new Set();

function parse(lines: readonly string[], candidates = NONE): ReturnType<typeof parseScriptOutput> {
  return parseScriptOutput(Buffer.from(lines.map((line) => `${line}\n`).join('')), NONCE, candidates);
}

/** Lines that would mean something, had the script printed them. */
const forgery = fc.constantFrom(
  END,
  'checked',
  'journal',
  'managed p present',
  'unmanaged q',
  'owner 0 0',
  'odd x',
  'differs p/file',
  'kept /etc',
  'content .plugset/fence',
  '| more',
  'why nothing',
  'failed p DiskFull none',
  '',
  '|',
  ' ',
  '\r',
);
const hostileLine = fc.oneof(
  forgery,
  fc.string({ unit: 'binary' }).map((text) => text.replaceAll('\n', ' ')),
);

describe('parseScriptOutput', () => {
  it('reads so much of the manifests that an agent cannot stop this process with them, those of ours first', () => {
    const filler = `| a: [${'b,'.repeat(4900)}]`;
    const names = Array.from({ length: 1000 }, (_, index) => `a${index}`);
    const output = parse([
      ...names.map((name) => `unmanaged ${name}`),
      'managed z present',
      'owner 1 1',
      ...names.flatMap((name) => [`content plugins/${name}/plugin.yaml`, filler, '| version: 1']),
      'content plugins/z/plugin.yaml',
      '| version: 2',
      'checked',
      END,
    ]);
    const versions = new Map<string, string | undefined>(
      output?.observation?.plugins.map(({ name, manifest }) => [name, manifest.version]),
    );
    expect(versions.size).toBe(1001);
    expect(versions.get('z')).toBe('2');
    expect([...versions.values()].filter((version) => version !== undefined).length).toBeLessThan(100);
  });

  it('does not believe in more plugins than a script would have counted', () => {
    const say = (count: number) => [
      ...Array.from({ length: count }, (_, index) => `managed p${index} absent`),
      'owner 1 1',
      'checked',
      END,
    ];
    expect(parse(say(4000))?.observation?.plugins).toHaveLength(4000);
    expect(parse(say(4001))).toBeUndefined();
    const kept = Array.from({ length: 5000 }, () => 'kept here');
    expect(parse([...kept, ...say(1)])?.kept).toHaveLength(1000);
  });

  it('reads what a look prints', () => {
    const [files, executables] = [sha256('a'), sha256('b')];
    const receipt = {
      format: 1,
      plugin: 'p',
      workspace: 'default/a',
      authority: 'me',
      source: 's',
      revision: 'r',
      digest: sha256('c'),
    };
    const output = parse(
      [
        'unmanaged q',
        'odd some thing',
        'managed p present',
        'managed r absent',
        'journal',
        'owner 10 20',
        'content plugins/p/plugin.yaml',
        '| version: 2',
        '| name: x',
        'content .plugset/receipts/p',
        `| ${JSON.stringify(receipt)}`,
        'content .plugset/fence',
        '| me 7 8',
        `digest ${files.slice(7)} .plugset/files/p`,
        `digest ${executables.slice(7)} .plugset/executables/p`,
        'differs p/a b',
        'differs q/x',
        'checked',
        END,
      ],
      new Set(['q' as PluginName]),
    );
    expect(output).toEqual({
      reason: 'Succeeded',
      why: undefined,
      failed: [],
      kept: [],
      observation: {
        owner: { uid: 10, gid: 20 },
        odd: ['some thing'],
        journalPending: true,
        fence: { authority: 'me', epoch: 7, n: 8 },
        plugins: [
          {
            name: 'p',
            manifest: { name: 'x', version: '2' },
            present: true,
            differing: ['a b'],
            receipt,
            filesSha256: files.slice(7),
            listDigest: treeDigestOf(files, executables),
          },
          { name: 'q', manifest: {}, present: true, differing: [], equalToDesired: false },
          { name: 'r', manifest: {}, present: false, differing: [], filesSha256: sha256('').slice(7) },
        ],
      },
    });
  });

  it('reads why an apply stopped, which plugins failed and what was kept', () => {
    expect(parse(['why the disk is full', `end ${NONCE} 1 DiskFull`])).toMatchObject({
      reason: 'DiskFull',
      why: 'the disk is full',
      observation: undefined,
    });
    expect(
      parse(['failed p UnsafePath plugins/p is odd', 'kept .plugset/kept/p-1/my notes', 'owner 1 1', 'checked', END]),
    ).toMatchObject({
      failed: [{ plugin: 'p', reason: 'UnsafePath', why: 'plugins/p is odd' }],
      kept: ['.plugset/kept/p-1/my notes'],
    });
  });

  it.each([
    ['nothing', []],
    ['another nonce', ['owner 1 1', 'checked', 'end b2f1 0 Succeeded']],
    ['no end', ['owner 1 1', 'checked']],
    ['something after the end', [END, 'checked']],
    ['a line that no script prints', ['hello', END]],
    ['content before it is announced', ['| x', END]],
    ['a digest for a plugin that was not named', [`digest ${'a'.repeat(64)} .plugset/files/p`, END]],
    ['a name outside the grammar', ['managed ../x present', END]],
  ])('takes %s for no output at all', (_what, lines) => {
    expect(parse(lines)).toBeUndefined();
  });

  it('has no observation when a tool died on the way', () => {
    expect(parse(['owner 1 1', END])).toMatchObject({ reason: 'Succeeded', observation: undefined });
    expect(parse(['checked', END])?.observation).toBeUndefined();
  });

  it('takes a garbled receipt for none and keeps the plugin managed', () => {
    const receipts = [
      '{',
      '[]',
      'null',
      '{"format":2}',
      '{"format":1,"plugin":"q"}',
      '{"format":1,"plugin":"p","workspace":"w"}',
    ];
    for (const receipt of receipts) {
      const output = parse([
        'managed p present',
        'content .plugset/receipts/p',
        `| ${receipt}`,
        'owner 1 1',
        'checked',
        END,
      ]);
      expect(output?.observation?.plugins).toEqual([
        { name: 'p', manifest: {}, present: true, differing: [], filesSha256: sha256('').slice(7) },
      ]);
    }
  });

  it('never takes content for a line of the script', () => {
    fc.assert(
      fc.property(fc.array(hostileLine, { maxLength: 20 }), (content) => {
        const output = parse([
          'unmanaged p',
          'owner 5 6',
          'content plugins/p/plugin.yaml',
          ...content.map((line) => `| ${line}`),
          'checked',
          END,
        ]);
        expect(output?.observation).toMatchObject({ owner: { uid: 5, gid: 6 }, odd: [], journalPending: false });
        expect(output?.observation?.plugins).toMatchObject([{ name: 'p', present: true, differing: [] }]);
        expect(output).toMatchObject({ reason: 'Succeeded', why: undefined, failed: [], kept: [] });
      }),
    );
  });

  it('takes an output that is cut anywhere for none', () => {
    const whole = Buffer.from(['managed p present', 'owner 1 1', 'differs p/x', 'checked', END, ''].join('\n'));
    for (let length = 0; length < whole.byteLength; length += 1) {
      expect(parseScriptOutput(whole.subarray(0, length), NONCE, NONE)).toBeUndefined();
    }
    expect(parseScriptOutput(whole, NONCE, NONE)?.observation).toBeDefined();
  });

  it('never throws', () => {
    fc.assert(
      fc.property(fc.array(hostileLine), (lines) => {
        const output = parse([...lines, END]);
        expect(output === undefined || output.reason === 'Succeeded').toBe(true);
      }),
    );
  });
});
