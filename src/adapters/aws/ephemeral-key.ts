import { generateKeyPairSync, randomBytes } from 'node:crypto';

/** A key pair for one login. It lives in memory only: nothing writes it down, and nothing prints it. */
export interface EphemeralKey {
  /** One line, as `authorized_keys` and SendSSHPublicKey take it. */
  readonly publicKey: string;
  /** In OpenSSH's own container, unencrypted: the only form of an ed25519 key that ssh2 can read. */
  readonly privateKey: string;
}

const TYPE = 'ssh-ed25519';
const KEY_BYTES = 32;
const BLOCK_BYTES = 8;

/**
 * Made by Node and put into the container here: the generator of ssh2 makes a key that nobody can parse about once in 250
 * times (mscdex/ssh2#1390), and ssh2 cannot read the PKCS#8 that Node writes (mscdex/ssh2#1303).
 *
 * The generator encodes the keys itself: to export one as JWK stops Node 20 for good about once in 100,000 times, when a
 * collection of garbage falls into it and waits for the lock that the export holds.
 */
export function createEphemeralKey(): EphemeralKey {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'der' },
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  });
  // RFC 8410: both forms end in the 32 bytes of the key.
  const seed = privateKey.subarray(-KEY_BYTES);
  const point = publicKey.subarray(-KEY_BYTES);
  const publicBlob = Buffer.concat([field(TYPE), field(point)]);
  return {
    // Without a comment it is exactly the 80 characters that SendSSHPublicKey asks for at least.
    publicKey: `${TYPE} ${publicBlob.toString('base64')}`,
    privateKey: armoured(publicBlob, privateSection(seed, point)),
  };
}

/** https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.key */
function armoured(publicBlob: Buffer, secret: Buffer): string {
  const container = Buffer.concat([
    Buffer.from('openssh-key-v1\0'),
    field('none'),
    field('none'),
    field(''),
    uint32(1),
    field(publicBlob),
    field(secret),
  ]);
  const lines = container.toString('base64').match(/.{1,70}/g) ?? [];
  return ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n');
}

function privateSection(seed: Buffer, point: Buffer): Buffer {
  // Twice the same: how a reader of an encrypted container sees that the passphrase was right.
  const check = randomBytes(4);
  const section = Buffer.concat([
    check,
    check,
    field(TYPE),
    field(point),
    field(Buffer.concat([seed, point])),
    field(''),
  ]);
  const missing = (BLOCK_BYTES - (section.length % BLOCK_BYTES)) % BLOCK_BYTES;
  return Buffer.concat([section, Buffer.from(Array.from({ length: missing }, (_, index) => index + 1))]);
}

function field(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content as string);
  return Buffer.concat([uint32(bytes.length), bytes]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
