import { execFile } from 'node:child_process';
import { createPublicKey, verify } from 'node:crypto';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import ssh2 from 'ssh2';
import { expect, onTestFinished, test } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';

const run = promisify(execFile);

test('makes a key that ssh2 can read, every time, and another one each time', () => {
  const seen = new Set<string>();
  for (let round = 0; round < 600; round++) {
    const { publicKey, privateKey } = createEphemeralKey();
    const parsed = ssh2.utils.parseKey(privateKey);
    if (parsed instanceof Error) throw parsed;
    expect(`ssh-ed25519 ${parsed.getPublicSSH().toString('base64')}`).toBe(publicKey);
    seen.add(publicKey);
  }
  expect(seen.size).toBe(600);
});

test('signs with the key whose public half it names', () => {
  const { publicKey, privateKey } = createEphemeralKey();
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) throw parsed;
  const message = Buffer.from('who goes there');
  const point = Buffer.from(publicKey.split(' ')[1] ?? '', 'base64').subarray(-32);
  const key = createPublicKey({
    key: { kty: 'OKP', crv: 'Ed25519', x: point.toString('base64url') },
    format: 'jwk',
  });
  expect(verify(null, message, key, parsed.sign(message))).toBe(true);
  expect(verify(null, Buffer.from('else'), key, parsed.sign(message))).toBe(false);
});

test('is long enough for SendSSHPublicKey, which takes no less than 80 characters', () => {
  expect(createEphemeralKey().publicKey).toHaveLength(80);
});

test('OpenSSH reads the same public key out of it', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'plugset-key-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const { publicKey, privateKey } = createEphemeralKey();
  const file = join(dir, 'key');
  await writeFile(file, privateKey);
  await chmod(file, 0o600);
  const { stdout } = await run('ssh-keygen', ['-y', '-P', '', '-f', file]);
  expect(stdout.trim()).toBe(publicKey);
});
