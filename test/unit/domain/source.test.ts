import { expect, it } from 'vitest';

import { parseSourceRef, SOURCE_GRAMMAR, withoutCredentials } from '../../../src/domain/source.ts';

it.each([
  'git+https://user:s3cret@host/repo#main',
  'git+https://s3cret@host/repo',
  'https://user:s3/cr3t@host/x',
  'https://user:s3@s3cret@host/x',
  'https://user:s3#s3cret@host/x',
  'https://host/x.tgz?token=s3cret',
  'host token=s3cret',
])('shows no credential of %s', (text) => {
  expect(withoutCredentials(text)).not.toMatch(/s3c|cr3t/);
  expect(withoutCredentials(text)).toMatch(/host/);
});

it.each([
  'superpowers',
  ' superpowers\n',
  'local://superpowers',
  'github://obra/superpowers#v4.1.0',
  'git+https://git.example/a b.git#main ',
  '',
  ' ',
  'Superpowers',
  'two words',
  'github:obra/superpowers',
  '://x',
  'github://',
  'GitHub://obra/superpowers',
  'github://obra/super\npowers',
  'github://obra/super\u007fpowers',
  'github://obra/superpowers\0',
])('an API server is told the grammar by which %j is read or not', (text) => {
  expect(new RegExp(SOURCE_GRAMMAR).test(text)).toBe(parseSourceRef(text) !== undefined);
});
