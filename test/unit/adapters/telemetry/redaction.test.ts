import { expect, test } from 'vitest';

import { redactText } from '../../../../src/adapters/telemetry/redaction.ts';

// Put together here, so that no scanner takes this file for a leak.
const LETTERS = 'Zx9Qw8Er7Ty6Ui5Op4As3Df2Gh1';

test('takes secrets out of a short text', () => {
  expect(redactText(`fetch https://bot:${LETTERS}@git.example/a.git failed`)).toBe(
    'fetch https://[redacted]@git.example/a.git failed',
  );
});

test('leaves the path of a file that holds a secret, and nothing that is no path', () => {
  for (const text of ['notifications.webhook.secretFile: /srv/secret holds little', 'PGPASSWORD_FILE=./pw, later'])
    expect(redactText(text)).toBe(text);
  for (const name of ['secretFile', 'tokenFilename', 'password'])
    expect(redactText(`${name}: ${LETTERS}`)).toBe(`${name}: [redacted]`);
  expect(redactText(`password: /${LETTERS}`)).toBe('password: [redacted]');
});

test('cuts what is very long, and leaves no half of a secret at the cut', () => {
  const text = `${'word '.repeat(3_274)}ghp_${LETTERS}`.padEnd(20_000, ' tail');
  expect(redactText(text)).not.toContain('ghp_');
  expect(redactText(text).length).toBeLessThan(17_000);
  expect(redactText(text)).toContain('(20000 characters)');
});
