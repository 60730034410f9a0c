import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseConfiguration, parseManifest } from '../../../src/plugins/manifest.ts';

describe('parseManifest', () => {
  it.each([
    [
      'name, version and runtimes',
      'name: a\nversion: 1.2.3\nruntimes: [hermes, claude-code]\nskills: [x]\n',
      { name: 'a', version: '1.2.3', runtimes: ['hermes', 'claude-code'] },
    ],
    ['a version that looks like a number, as written', 'version: 1.10', { version: '1.10' }],
    ['the other fields when one has the wrong type', 'name: [a]\nversion: "2"\nruntimes: {a: b}', { version: '2' }],
    ['the usable runtimes only', 'runtimes: [a, [b], {c: d}, e]', { runtimes: ['a', 'e'] }],
    ['nothing of an empty field', 'name:\nversion: 1', { version: '1' }],
    ['nothing of text with an escape sequence', 'name: "a\\e[31m"\nversion: 1', { version: '1' }],
    ['nothing of an endless name', `name: ${'a'.repeat(300)}`, {}],
    ['nothing of a list', '- a', {}],
    ['nothing of broken YAML', 'name: [', {}],
    ['nothing of an empty file', '', {}],
    ['nothing of 64 KiB and more', `version: 1\n#${' '.repeat(64 * 1024)}`, {}],
    ['nothing of 60,000 opening brackets', '['.repeat(60_000), {}],
    ['nothing of 20,000 lists in lists', '- '.repeat(20_000), {}],
    ['nothing of 15,000 maps in maps', '{a: '.repeat(15_000), {}],
    ['the last of equal keys', 'version: 2\nversion: 3\n', { version: '3' }],
    ['nothing of 10,000 keys', `${'k: 1\n'.repeat(10_000)}version: 3\n`, {}],
    ['nothing of a prototype key', '__proto__: {version: "6"}', {}],
  ])('reads %s', (_what, text, expected) => {
    expect(parseManifest(text)).toEqual(expected);
  });

  it('gives up on aliases that multiply', () => {
    const levels = Array.from(
      { length: 20 },
      (_, i) => `l${i}: &l${i} [${i === 0 ? 'x' : Array.from({ length: 9 }, () => `*l${i - 1}`).join(', ')}]`,
    );
    expect(parseManifest(levels.join('\n'))).toEqual({});
  });

  it('never throws', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => typeof parseManifest(bytes) === 'object'));
  });
});

describe('parseConfiguration', () => {
  const parse = (text: string): unknown => parseConfiguration(Buffer.from(text));

  it('reads sections with properties, types and all', () => {
    expect(
      parse(
        'contributes: {configuration: {properties: {a: {type: integer, minimum: 1}}, required: [a], additionalProperties: false}}',
      ),
    ).toEqual({ properties: { a: { type: 'integer', minimum: 1 } }, required: ['a'], isClosed: true });
    expect(
      parse(
        'contributes:\n  configuration:\n  - properties: {a: {}}\n    additionalProperties: false\n  - properties: {b: {}}\n',
      ),
    ).toEqual({ properties: { a: {}, b: {} }, required: [], isClosed: false });
  });

  it.each([
    ['nothing', ''],
    ['no properties', 'contributes: {configuration: {}}'],
    ['a text', 'contributes: {configuration: yes}'],
    ['broken YAML', 'contributes: ['],
    ['64 KiB and more', `contributes: {configuration: {properties: {a: {}}}}\n#${' '.repeat(64 * 1024)}`],
    [
      'aliases without end',
      'a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b]\ncontributes: {configuration: {properties: {a: *b}}}',
    ],
  ])('takes %s for no word about settings', (_what, text) => {
    expect(parse(text)).toBeUndefined();
  });
});
