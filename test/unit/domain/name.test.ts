import { describe, expect, it } from 'vitest';

import { isName, parsePluginName, parseWorkspaceKey, splitWorkspaceKey } from '../../../src/domain/name.ts';

const GOOD = ['a', '0', 'superpowers', 'a.b_c-d', 'a..b', 'a-', 'x'.repeat(128)];
const BAD = [
  '',
  '.',
  '..',
  '.hidden',
  '-rf',
  '_x',
  'a/b',
  'a\\b',
  'a b',
  ' a',
  'a\n',
  'a\0',
  'a\0b',
  "a'b",
  'a"b',
  'a`b',
  '$(a)',
  'a;b',
  '*',
  'A',
  'ä',
  '\u0430',
  'x'.repeat(129),
];

describe('names', () => {
  it.each(GOOD)('%j is one', (name) => {
    expect(isName(name)).toBe(true);
    expect(parsePluginName(name)).toBe(name);
    expect(parseWorkspaceKey(name)).toBe(`default/${name}`);
    expect(parseWorkspaceKey(`${name}/${name}`)).toBe(`${name}/${name}`);
  });

  it.each(BAD)('%j is none', (name) => {
    expect(isName(name)).toBe(false);
    expect(parsePluginName(name)).toBeUndefined();
    expect(parseWorkspaceKey(`team/${name}`)).toBeUndefined();
    expect(parseWorkspaceKey(`${name}/alice`)).toBeUndefined();
  });

  it('a key comes apart as it was put together', () => {
    const key = parseWorkspaceKey('team-a/alice');
    expect(key === undefined ? undefined : splitWorkspaceKey(key)).toEqual({ namespace: 'team-a', name: 'alice' });
    expect(parseWorkspaceKey('a/b/c')).toBeUndefined();
  });
});
