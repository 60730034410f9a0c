import { expect, test } from 'vitest';

import { consoleHostKeys } from '../../../../src/adapters/aws/console-host-keys.ts';

const ED25519 = 'AAAAC3NzaC1lZDI1NTE5AAAAIPVEajMfZnMY5FCSUB7HQdwC2nCyLf2FTSuP4bsZF21q';
const OTHER = 'AAAAC3NzaC1lZDI1NTE5AAAAIKjGdJzTBrGRlTo7r3MSn4QjVmZRaGyYUL5slYfkGyM9';
const BEGIN = '-----BEGIN SSH HOST KEY KEYS-----';
const END = '-----END SSH HOST KEY KEYS-----';

test('reads the block that cloud-init prints', () => {
  const keys = consoleHostKeys(
    [
      '[   12.1] cloud-init[811]: Generating public/private key pair',
      '-----BEGIN SSH HOST KEY FINGERPRINTS-----',
      '256 SHA256:xxxx root@ip (ED25519)',
      '-----END SSH HOST KEY FINGERPRINTS-----',
      BEGIN,
      `ecdsa-sha2-nistp256 AAAAE2VjZHNh root@ip-10-0-0-5`,
      `ssh-ed25519 ${ED25519} root@ip-10-0-0-5`,
      END,
    ].join('\r\n'),
  );
  expect(keys).toEqual([
    { type: 'ecdsa-sha2-nistp256', key: 'AAAAE2VjZHNh' },
    { type: 'ssh-ed25519', key: ED25519 },
  ]);
});

test('reads lines that a logger has stamped', () => {
  const stamp = '<14>Apr  9 22:06:30 ec2: ';
  const output = [`${stamp}${BEGIN}`, `${stamp}ssh-ed25519 ${ED25519} root@host`, `${stamp}${END}`].join('\n');
  expect(consoleHostKeys(output)).toHaveLength(1);
});

test('takes the last whole block', () => {
  const block = (key: string): string => `${BEGIN}\nssh-ed25519 ${key} a@b\n${END}\n`;
  expect(consoleHostKeys(block(OTHER) + block(ED25519))).toEqual(consoleHostKeys(block(ED25519)));
  expect(consoleHostKeys(block(ED25519) + `${BEGIN}\nssh-ed25519 ${OTHER} a@b\n`)).toEqual(
    consoleHostKeys(block(ED25519)),
  );
});

test('reads nothing where there is nothing, and nothing outside of a block', () => {
  expect(consoleHostKeys('')).toEqual([]);
  expect(consoleHostKeys(`ssh-ed25519 ${ED25519}\n${BEGIN}\n`)).toEqual([]);
  expect(consoleHostKeys(`ssh-ed25519 ${ED25519}\n${END}\n`)).toEqual([]);
  expect(consoleHostKeys(`${BEGIN}\nno keys were made\n${END}`)).toEqual([]);
});
