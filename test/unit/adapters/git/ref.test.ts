import { expect, it } from 'vitest';

import { chooseCommit, parseRef, refCandidates } from '../../../../src/adapters/git/ref.ts';

const refs = new Map([
  ['HEAD', 'head'],
  ['refs/heads/main', 'main'],
  ['refs/heads/both', 'branch'],
  ['refs/tags/both', 'tag'],
  ['refs/heads/v1', 'v1-branch'],
  ['refs/tags/v1', 'v1-object'],
  ['refs/tags/v1^{}', 'v1-commit'],
  ['refs/tags/latest', 'latest'],
  ['refs/heads/tags/odd', 'odd'],
]);

it.each([
  ['main', 'main'],
  ['both', 'tag'],
  ['tag:both', 'tag'],
  ['refs/heads/both', 'branch'],
  ['heads/both', 'branch'],
  ['v1', 'v1-commit'],
  ['tag:v1', 'v1-commit'],
  ['heads/v1', 'v1-branch'],
  ['tag:main', undefined],
  ['tags/odd', 'odd'],
  [undefined, 'head'],
])('%s stands for %s, in the order of git', (fragment, commit) => {
  const selector = parseRef(fragment, (problem) => new Error(problem));
  expect(chooseCommit(selector, refs)).toBe(commit);
});

it('G-28: tag:latest is the tag that is called so, not a policy', () => {
  const selector = parseRef('tag:latest', (problem) => new Error(problem));
  expect(refCandidates(selector)).toEqual(['refs/tags/latest']);
  expect(chooseCommit(selector, refs)).toBe('latest');
  expect(chooseCommit(selector, new Map([['refs/tags/v9', 'x']]))).toBeUndefined();
});
