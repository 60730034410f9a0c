import { describe, expect, it } from 'vitest';

import { parseAddress, type AddressRules } from '../../../../src/adapters/git/address.ts';
import { refText } from '../../../../src/adapters/git/ref.ts';
import { ReconcileError } from '../../../../src/domain/errors.ts';
import { parseSourceRef } from '../../../../src/domain/source.ts';

const RULES: AddressRules = {
  githubBaseUrl: 'https://github.com',
  giteaBaseUrl: 'https://git.example.com:3000/forge/',
  allowHttp: true,
  allowUnpinned: false,
};

function parse(
  text: string,
  rules: Partial<AddressRules> = {},
): { url: string; subPath: string; ref: string; endpoint: unknown } {
  const source = parseSourceRef(text);
  if (source === undefined) throw new Error(`${text} is no source at all`);
  const { url, subPath, ref, endpoint } = parseAddress(source, { ...RULES, ...rules });
  return { url, subPath, ref: refText(ref), endpoint };
}

function refusal(text: string, rules: Partial<AddressRules> = {}): ReconcileError {
  try {
    parse(text, rules);
  } catch (error) {
    if (error instanceof ReconcileError) return error;
    throw error;
  }
  throw new Error(`${text} was not refused`);
}

const COMMIT = '0123456789abcdef0123456789ABCDEF01234567';

describe('understood', () => {
  it.each([
    ['github://obra/superpowers#v4.1.0', 'https://github.com/obra/superpowers.git', '', 'v4.1.0'],
    ['github://obra/superpowers.git#main', 'https://github.com/obra/superpowers.git', '', 'main'],
    ['gitea://o/r#main', 'https://git.example.com:3000/forge/o/r.git', '', 'main'],
    ['gitea://o/r/sub/path.d#main', 'https://git.example.com:3000/forge/o/r.git', 'sub/path.d', 'main'],
    ['git+https://h.example/a/b.git#main', 'https://h.example/a/b.git', '', 'main'],
    ['git+https://H.example:443/a/b#main', 'https://h.example/a/b', '', 'main'],
    ['git+https://h:8443/a/b.git//sub/dir#main', 'https://h:8443/a/b.git', 'sub/dir', 'main'],
    ['git+http://[::1]:8080/a/b.git#main', 'http://[::1]:8080/a/b.git', '', 'main'],
    ['git+ssh://git@h/a/b.git#main', 'ssh://git@h/a/b.git', '', 'main'],
    ['git+ssh://h:2222/~u/b.git#main', 'ssh://git@h:2222/~u/b.git', '', 'main'],
    ['git+file:///srv/git/b.git#main', 'file:///srv/git/b.git', '', 'main'],
    ['git+file:///srv/git/b.git//sub#main', 'file:///srv/git/b.git', 'sub', 'main'],
  ])('%s', (text, url, subPath, ref) => {
    expect(parse(text)).toMatchObject({ url, subPath, ref });
  });

  it.each([
    ['main', 'main'],
    ['feature/x_y-z.1', 'feature/x_y-z.1'],
    ['pkg@1.0.0+build', 'pkg@1.0.0+build'],
    ['tag:v1', 'tag:v1'],
    ['tag:latest', 'tag:latest'],
    ['refs/heads/main', 'refs/heads/main'],
    ['deadbeef', 'deadbeef'],
    [COMMIT, `sha:${COMMIT.toLowerCase()}`],
    [`sha:${COMMIT}`, `sha:${COMMIT.toLowerCase()}`],
    ['a'.repeat(64), `sha:${'a'.repeat(64)}`],
  ])('ref %s', (ref, expected) => {
    expect(parse(`github://o/r#${ref}`).ref).toBe(expected);
  });

  it('no ref at all, where that is allowed', () => {
    expect(parse('github://o/r', { allowUnpinned: true }).ref).toBe('HEAD');
    expect(parse('github://o/r#HEAD', { allowUnpinned: true }).ref).toBe('HEAD');
  });
});

describe('refused', () => {
  it.each([
    'github://o',
    'github://o/',
    'github:///r#m',
    'github://o/r/sub#m',
    'github://-o/r#m',
    'github://o/-r#m',
    'github://o/..#m',
    'github://o/.git#m',
    `github://${'o'.repeat(101)}/r#m`,
    'github://o/r',
    'github://o/r#HEAD',
    'github://o/r#',
    'github://o/r?x#m',
    'gitea://o/r/../x#m',
    'gitea://o/r//x#m',
    'gitea://o/r/.#m',
    'gitea://o/r/#m',
    'gitea://o/r/a b#m',
    'gitea://o/r/$(x)#m',
    'git+https://h#m',
    'git+https:///a#m',
    'git+https://-h/a#m',
    'git+https://h/#m',
    'git+https://h/a//b//c#m',
    'git+https://h/%2e%2e/a#m',
    'git+https://h:0/a#m',
    'git+https://h:99999/a#m',
    'git+https://h h/a#m',
    'git+https://h/../a#m',
    'git+https://h/a?b#m',
    'git+ssh://-oProxyCommand=x/a#m',
    'git+ssh://-x@h/a#m',
    'git+ssh://u:p@h/a#m',
    'git+ssh://a@b@h/a#m',
    'git+ssh://h/$(x)#m',
    'git+file://relative/x#m',
    'git+file:///a/../b#m',
    'git+file:///a/%2e#m',
    'git+file:///#m',
  ])('place %s', (text) => {
    expect(refusal(text)).toMatchObject({ class: 'terminal', reason: 'InvalidSource' });
    expect(refusal(text).message).toMatch(/for example (github|gitea|git\+\w+):\/\//);
  });

  it.each([
    '-rf',
    '--upload-pack=x',
    '/m',
    'a..b',
    'a//b',
    'a/',
    'a.',
    'a.lock',
    'a/.b',
    'a b',
    'a~1',
    'a^',
    'a:b',
    'a\\b',
    'a*',
    'x#y',
    'tag:',
    'tag:-x',
    'sha:',
    'sha:main',
    'sha:0123456',
    `sha:${COMMIT}0`,
    'x'.repeat(256),
    '@{u}',
    'a@{1}',
    '$(id)',
    'é',
  ])('ref %s', (ref) => {
    expect(refusal(`github://o/r#${ref}`)).toMatchObject({ class: 'terminal', reason: 'InvalidSource' });
  });

  it('an abbreviated commit, and says why', () => {
    expect(refusal('github://o/r#sha:0123abc').message).toContain('full commit of 40');
  });

  it('schemes that the operator has not set up', () => {
    expect(refusal('gitea://o/r#m', { giteaBaseUrl: undefined }).message).toContain('no base URL');
    expect(refusal('git+http://h/a#m', { allowHttp: false }).message).toContain('unencrypted');
  });

  it.each([
    'git+https://user:hunter2secret@h/a.git#main',
    'git+https://hunter2secret@h/a.git#main',
    'git+https://:hunter2secret@h/a.git#main',
    'git+https://h/hunter2secret@x y#main',
    'git+ssh://git:hunter2secret@h/a.git#main',
    'git+https://user:hunter2secret@h#main',
    'git+https://h/a.git#hunter2secret secret',
  ])('credentials in a URL, without repeating them: %s', (text) => {
    expect(refusal(text).message).not.toContain('hunter2');
  });
});
