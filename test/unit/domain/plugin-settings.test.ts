import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { sha256 } from '../../../src/domain/digest.ts';
import type { PluginName } from '../../../src/domain/name.ts';
import {
  checkSettings,
  parseReference,
  renderSettings,
  settingsRevision,
  settingsStep,
  type ConfigurationSchema,
  type DesiredSettings,
  type ObservedSettings,
  type SettingsFile,
} from '../../../src/domain/plugin-settings.ts';

const TOOL = 'tool' as PluginName;
const UID = 1000;

describe('parseReference', () => {
  it.each([
    ['secret:a.b/KEY_1.x', { scheme: 'secret', name: 'a.b', key: 'KEY_1.x' }],
    ['file:/run/secrets/a b', { scheme: 'file', path: '/run/secrets/a b' }],
    ['env:TOKEN', { scheme: 'env', variable: 'TOKEN' }],
    ['secret:../x/y', undefined],
    ['secret:other-ns/name/key', undefined],
    ['file:relative', undefined],
    ['file:/a\nb', undefined],
    ['env:A B', undefined],
    ['https://example.com', undefined],
    ['', undefined],
  ])('%j', (text, expected) => {
    expect(parseReference(text)).toEqual(expected);
  });
});

describe('checkSettings', () => {
  const schema = (properties: object, rest: Partial<ConfigurationSchema> = {}): ConfigurationSchema => ({
    properties: { ...properties },
    required: [],
    isClosed: false,
    ...rest,
  });

  it.each<[string, object, unknown, RegExp | undefined]>([
    ['a good value', { type: 'integer' }, 3, undefined],
    ['another type', { type: 'integer' }, 'hunter2', /expected number, received string/],
    ['too small', { type: 'number', minimum: 2 }, 1, />=2/],
    ['none of an enumeration', { enum: ['a', 'b'] }, 'hunter2', /"a"\|"b"/],
    ['deep inside', { properties: { x: { type: 'string' } }, type: 'object' }, { x: 1 }, /at x: .*expected string/],
    // It could take the process for hours; what it says is nothing that is checked.
    ['a pattern', { type: 'string', pattern: '(a+)+$' }, `${'a'.repeat(40)}!`, undefined],
    ['a schema that nobody understands', { type: 'nonsense' }, 1, /cannot be understood/],
    ['a control character in a schema', { enum: ['\u001b[31m'] }, 'x', /"\?\[31m"/],
    ['a reference, whatever the type', { type: 'integer' }, { $ref: 'env:A' }, undefined],
    ['a reference with something beside it', {}, { $ref: 'env:A', b: 1 }, /\$ref must be/],
    ['a wrong reference deep inside', {}, [{ a: { $ref: 'env:' } }], /\$ref must be/],
  ])('%s', (_what, property, value, problem) => {
    const { values, problems } = checkSettings({ key: value, other: 1 }, schema({ key: property }));
    expect(values).toEqual(problem === undefined ? { key: value, other: 1 } : { other: 1 });
    expect(problems).toEqual(problem === undefined ? [] : [expect.stringMatching(problem)]);
    expect(problems.join()).not.toContain('hunter2');
  });

  it('drops keys that a closed schema does not have, and names those that are missing', () => {
    const { values, problems } = checkSettings(
      { a: 1, b: 2 },
      schema({ a: {}, c: {} }, { isClosed: true, required: ['c'] }),
    );
    expect(values).toEqual({ a: 1 });
    expect(problems).toEqual([
      '"b": the manifest of the plugin knows no such key',
      '"c": is required by the manifest of the plugin',
    ]);
  });

  it('takes keys of prototypes for keys', () => {
    const config = JSON.parse('{"__proto__": {"a": 1}, "constructor": 1, "toString": 2}') as Record<string, unknown>;
    const { values, problems } = checkSettings(config, schema({ a: { type: 'string' } }));
    expect(problems).toEqual([]);
    expect(JSON.parse(renderSettings({}, { values, references: [], problems }, new Map()))).toEqual(config);
  });

  it('ends for any schema and any value', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.dictionary(fc.string(), fc.jsonValue()), (a, b) => {
        const { values, problems } = checkSettings(a, schema(b));
        return Object.keys(values).length + problems.length >= Object.keys(a).length;
      }),
    );
  });
});

it('the file does not depend on the order in which settings were written', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (config) => {
      const backwards = Object.fromEntries(Object.entries(config).toReversed());
      const [one, two] = [config, backwards].map((values) =>
        renderSettings({}, { values, references: [], problems: [] }, new Map()),
      );
      expect(one).toBe(two);
    }),
  );
});

it('a secret is put where its reference was, and nowhere else', () => {
  const values = { a: { $ref: 'env:A' }, list: [{ deep: { $ref: 'env:B' } }], text: '$ref' };
  const secrets = new Map([
    ['env:A', '{"$ref": "env:B"}'],
    ['env:B', 'b'],
  ]);
  const text = renderSettings(
    { a: 'under it', base: 1 },
    { values, references: ['env:A', 'env:B'], problems: [] },
    secrets,
  );
  expect(JSON.parse(text)).toEqual({ a: '{"$ref": "env:B"}', list: [{ deep: 'b' }], text: '$ref', base: 1 });
});

describe('settingsStep', () => {
  const revision = settingsRevision(sha256('a'), []);
  const wanted: DesiredSettings = { values: {}, references: [], problems: [], declared: sha256('a'), revision };
  const file = (hex = 'a', uid = UID): SettingsFile => ({ kind: 'file', uid, sha256: hex });
  const absent: SettingsFile = { kind: 'absent' };
  const receipt = { format: 1, plugin: TOOL, workspace: 'default/alice', revision, sha256: 'a' } as const;
  const ours: ObservedSettings = { name: TOOL, file: file(), receiptFile: file('r'), base: absent, receipt };

  it.each<[string, DesiredSettings | undefined, ObservedSettings | undefined, object]>([
    ['delivers what is not there', wanted, undefined, { kind: 'write', cause: 'intentional' }],
    ['leaves what is as declared', wanted, ours, { kind: 'none' }],
    ['delivers other ones', { ...wanted, revision: sha256('b') }, ours, { kind: 'write', cause: 'intentional' }],
    ['brings back a changed file', wanted, { ...ours, file: file('b') }, { kind: 'write', cause: 'corrective' }],
    ['brings back a deleted file', wanted, { ...ours, file: absent }, { kind: 'write', cause: 'corrective' }],
    [
      'writes anew over a garbled receipt',
      wanted,
      { ...ours, receipt: undefined },
      { kind: 'write', cause: 'corrective' },
    ],
    [
      "goes over a user's file",
      wanted,
      { ...ours, receiptFile: absent, receipt: undefined },
      { kind: 'write', cause: 'intentional' },
    ],
    ['takes ours away', undefined, ours, { kind: 'remove', cause: 'intentional' }],
    ["leaves a user's file", undefined, { ...ours, receiptFile: absent, receipt: undefined }, { kind: 'none' }],
    ['leaves everything while a secret is unknown', { ...wanted, revision: undefined }, ours, { kind: 'none' }],
    ['touches no link', wanted, { ...ours, file: { kind: 'other' } }, { kind: 'blocked' }],
    ['touches no file of somebody else', undefined, { ...ours, file: file('a', 0) }, { kind: 'blocked' }],
    ['trusts no base that is a link', wanted, { ...ours, base: { kind: 'other' } }, { kind: 'blocked' }],
  ])('%s', (_what, desired, found, expected) => {
    expect(settingsStep(TOOL, desired, found, UID)).toMatchObject(expected);
  });
});
