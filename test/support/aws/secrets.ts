import { expect } from 'vitest';

import type { FakeAws } from './fake-aws.ts';

/** How the container of a private key begins: its armour, and what is in it, in base64. */
const KEY_BEGINNINGS = ['PRIVATE KEY', Buffer.from('openssh-key-v1').toString('base64').slice(0, 16)];
/** What no part of may be told of a request that was signed, by name or as it stands in an address. */
const SIGNED = ['X-Amz-', 'openTunnel?'];

/** That none of it is in what was said: credentials as they are and encoded, signed addresses, keys that were made for a login. */
export function expectNoSecrets(aws: FakeAws, ...said: readonly unknown[]): void {
  const text = JSON.stringify(said, (_key, value: unknown) =>
    value instanceof Error ? [value.message, value.stack, value.cause, Object.entries(value)] : value,
  );
  const credentials = aws.issued.flatMap(({ accessKeyId, secretAccessKey, sessionToken = 'none' }) => [
    accessKeyId,
    secretAccessKey,
    sessionToken,
  ]);
  const secrets = [...credentials, ...aws.signatures];
  for (const secret of [...secrets, ...secrets.map(encodeURIComponent), ...KEY_BEGINNINGS, ...SIGNED])
    expect(text).not.toContain(secret);
}
