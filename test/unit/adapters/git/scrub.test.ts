import { expect, it } from 'vitest';

import { secretsOf } from '../../../../src/adapters/git/credentials.ts';
import { scrub } from '../../../../src/adapters/git/scrub.ts';

it.each([
  ['a URL with a password', "unable to access 'https://bob:hunter2secret@h/x.git/'"],
  ['a URL with a token', 'fatal: https://hunter2secret@h/x'],
  ['a URL with an @ in the password', 'https://bob:a@hunter2secret@h/x'],
  ['a header', 'Authorization: Basic hunter2secret=='],
  ['a header of another kind', 'PRIVATE-TOKEN: hunter2secret'],
  ['a bearer token', 'sent Bearer hunter2secret.x.y'],
  ['a GitHub token', 'bad token ghp_hunter2secret0123456789'],
  ['a query', 'https://h/x?access_token=hunter2secret&y=1'],
  ['a private key', '-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2secret\n-----END OPENSSH PRIVATE KEY-----'],
])('%s does not show the secret', (_name, text) => {
  expect(scrub(text, [])).not.toContain('hunter2');
});

it('known secrets go in every form they may turn up in', () => {
  const secrets = secretsOf(['https://bob:pa%2Fss%20word@h']);
  const basic = Buffer.from('bob:pa/ss word').toString('base64');
  expect(scrub(`1 pa/ss word 2 pa%2Fss%20word 3 ${basic} 4`, secrets)).toBe('1 [redacted] 2 [redacted] 3 [redacted] 4');
});

it('what is left is one short line without control characters', () => {
  expect(scrub('fatal: no\n\u001b[31mred\u0007\n', [])).toBe('fatal: no [31mred');
  expect(scrub('x'.repeat(5000), [])).toHaveLength(500);
});

it('plain texts stay as they are', () => {
  const text = "fatal: repository 'https://h/o/r.git/' not found";
  expect(scrub(text, [])).toBe(text);
});
