import { createHash } from 'node:crypto';

import { z } from 'zod';

import { hexOf, sha256 } from './digest.ts';
import { isName } from './name.ts';
import { stateKey, type StateFolder } from './state-key.ts';

/** What is remembered of a host from its first contact on: a document of `ControllerState`. */
export const hostKeyPinSchema = z.object({
  /** `agents.example.com`, `[10.0.0.5]:2222`, `i-0123456789abcdef0` */
  name: z.string(),
  keys: z.array(z.object({ type: z.string(), key: z.string() })).min(1),
  /** Somebody vouched for the key; otherwise it is just the one that was there first. */
  verified: z.boolean(),
  /** Unix milliseconds. */
  pinnedAtMs: z.number(),
  /** Where the host is found, if nothing else will ever be found there: `ec2:eu-west-1:id:i-0123456789abcdef0`. */
  address: z.string().optional(),
  /** Since when there is nothing at that address, Unix milliseconds. */
  missingSinceMs: z.number().optional(),
});

export type HostKeyPin = z.infer<typeof hostKeyPinSchema>;

export const HOST_KEYS_FOLDER: StateFolder = 'hostkey';

/** So begins no key that is the name itself: whoever names hosts could name the document of another. */
const HASHED = 'h-';

/** Key of the document. Not every name of a host is one of a document: `[::1]:2222`. */
export function hostKeyPinKey(name: string): string {
  const isPlain = isName(name) && !name.startsWith(HASHED);
  return stateKey(HOST_KEYS_FOLDER, isPlain ? name : `${HASHED}${hexOf(sha256(name)).slice(0, 32)}`);
}

/** Those that OpenSSH's servers have; authorities and keys on tokens are none. */
const KEY_TYPE = /^(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521))$/;

/** A public key as its file has it: type, blob, and whatever comment; `undefined` where the blob is of no such type. */
export function parseHostKey(line: string): HostKeyPin['keys'][number] | undefined {
  const [type = '', key = ''] = line.trim().split(/\s+/);
  const blob = Buffer.from(key, 'base64');
  const length = blob.length < 4 ? 0 : blob.readUInt32BE(0);
  const isWhole = blob.toString('base64') === key && blob.toString('latin1', 4, 4 + length) === type;
  return KEY_TYPE.test(type) && isWhole ? { type, key } : undefined;
}

/** As `ssh-keygen -l` prints it: `SHA256:…`. `key`: its blob, in base64. */
export function fingerprintOf({ key }: { readonly key: string }): string {
  return `SHA256:${createHash('sha256').update(Buffer.from(key, 'base64')).digest('base64').replaceAll('=', '')}`;
}
