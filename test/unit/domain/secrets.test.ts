import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { isSecretName, redactSecrets } from '../../../src/domain/secrets.ts';

// Every secret ends in these letters, which are put in here: no scanner takes this file for a leak.
const LETTERS = 'Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1';
const PEM = (kind: string): string => `-----BEGIN ${kind}-----\n${LETTERS}\n${LETTERS}\n-----END ${kind}-----`;

const SEEDED: readonly [what: string, text: string, secret: string][] = [
  ['password in a URL', `fetch https://bot:${LETTERS}@git.example/a.git failed`, LETTERS],
  ['password with a slash and an @ in a URL', `postgres://app:p@${LETTERS}/x@db:5432/plugset`, LETTERS],
  ['password of digits in a URL', 'redis://:8812349871@cache:6379/0', '8812349871'],
  ['token as the user of a URL', `https://${LETTERS}@git.example/a.git`, LETTERS],
  ['bearer token', `authorization: Bearer ${LETTERS}`, LETTERS],
  ['bearer token in prose', `sent bearer ${LETTERS} to the forge`, LETTERS],
  ['credentials of another scheme', `Authorization: token ${LETTERS}`, LETTERS],
  ['header that goes on', `private-token: x1 ${LETTERS}`, LETTERS],
  ['key of a model', `sk-proj-${LETTERS}`, LETTERS],
  ['basic credentials', `Authorization: Basic ${btoa(`bot:${LETTERS}`)}`, btoa(`bot:${LETTERS}`)],
  ['JSON web token', `got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.${LETTERS}`, LETTERS],
  ['classic GitHub token', `remote: ghp_${LETTERS} is no longer valid`, LETTERS],
  ['GitHub app token', `ghs_${LETTERS}`, LETTERS],
  ['fine-grained GitHub token', `github_pat_11ABC_${LETTERS}`, LETTERS],
  ['GitLab token', `glpat-${LETTERS}`, LETTERS],
  ['Slack token', `xoxb-1234-${LETTERS}`, LETTERS],
  ['AWS key id', 'key AKIAIOSFODNN7EXAMPLE is not known', 'IOSFODNN7EXAMPLE'],
  ['AWS session key id', 'ASIAIOSFODNN7EXAMPLE', 'IOSFODNN7EXAMPLE'],
  ['AWS secret by its name', `aws_secret_access_key = ${LETTERS}/+x`, LETTERS],
  ['environment assignment', `GITEA_TOKEN=${LETTERS} git fetch`, LETTERS],
  ['query parameter', `GET /x?access_token=${LETTERS}&page=2`, LETTERS],
  ['JSON text', `{"user":"bot","password":"${LETTERS} with spaces"}`, LETTERS],
  ['JSON text with an escaped quote', `{"password":"a\\"${LETTERS}"}`, LETTERS],
  ['JSON text within JSON text', `{"body":"{\\"password\\":\\"${LETTERS}\\"}"}`, LETTERS],
  ['JSON text that was cut off', `{"password":"a b ${LETTERS}`, LETTERS],
  ['libpq text', `host=db user=app password='${LETTERS} x' dbname=p`, LETTERS],
  ['connection string', `connectionString: Server=db;${LETTERS}`, 'Server=db'],
  ['private key', PEM('OPENSSH PRIVATE KEY'), LETTERS],
  ['private key that was cut off', PEM('RSA PRIVATE KEY').slice(0, -40), LETTERS],
];

describe('redactSecrets', () => {
  test.each(SEEDED)('takes out a %s', (_what, text, secret) => {
    expect(redactSecrets(text)).not.toContain(secret);
    expect(redactSecrets(text)).toContain('[redacted]');
    expect(redactSecrets(`before ${text} after`)).toMatch(/^before [^]*after$|^before [^]*\[redacted\]/);
  });

  test.each([
    'container ws-alice on engine default is not running (exit code 137)',
    'https://github.com/obra/superpowers/tree/main?tab=readme#install',
    'http://127.0.0.1:9464/metrics, ask bob@example.org',
    'https://registry.example:5000/@scope/package',
    'sha256:4f2a91c07d31e5b8a6f0c3d2e1b4a59687f0e1d2c3b4a5968778695a4b3c2d1e',
    'HTTP Basic authentication failed',
    'the risk-averse-and-sk-learn-something-long',
    'commit 0123456789abcdef0123456789abcdef01234567 of refs/heads/main',
    'team-a/alice: install superpowers, remove old-thing',
    '',
  ])('leaves ordinary text alone: %s', (text) => {
    expect(redactSecrets(text)).toBe(text);
  });

  test('doing it twice changes nothing more', () => {
    for (const [, text] of SEEDED) expect(redactSecrets(redactSecrets(text))).toBe(redactSecrets(text));
  });

  test('whatever the text, it ends, and soon', () => {
    const nasty = fc.constantFrom(
      'a',
      ':',
      '/',
      '@',
      '://',
      'x://',
      'token',
      '=',
      'bearer ',
      'eyJ',
      '.',
      '-',
      "'",
      '"',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(nasty, { maxLength: 40 }), fc.integer({ min: 1, max: 400 }), (parts, times) => {
        expect(typeof redactSecrets(parts.join('').repeat(times))).toBe('string');
      }),
      { numRuns: 150 },
    );
  });
});

describe('isSecretName', () => {
  test.each([
    'password',
    'dbPassword',
    'PGPASSWORD',
    'passphrase',
    'token',
    'access_token',
    'secret',
    'clientSecret',
    'Authorization',
    'connectionString',
    'DATABASE_URL',
    'databaseUrl',
    'apiKey',
    'x-api-key',
    'privateKey',
    'aws_secret_access_key',
    'cookie',
  ])('%s', (name) => {
    expect(isSecretName(name)).toBe(true);
  });

  test.each(['key', 'name', 'path', 'reason', 'author', 'authority', 'passes', 'source', 'digest'])(
    'not %s',
    (name) => {
      expect(isSecretName(name)).toBe(false);
    },
  );
});
