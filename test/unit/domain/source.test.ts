import { expect, it } from 'vitest';

import { withoutCredentials } from '../../../src/domain/source.ts';

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
