import { createHash } from 'node:crypto';

import type { HostKey } from '../../ports/ssh-endpoint.ts';

/** A key as a host sends it: its blob begins with the length and the name of its type. */
export function hostKeyOf(blob: Buffer): HostKey {
  const length = blob.length < 4 ? 0 : blob.readUInt32BE(0);
  return { type: blob.toString('latin1', 4, 4 + length), key: blob.toString('base64') };
}

/** As `ssh-keygen -l` prints it: `SHA256:…` */
export function fingerprintOf({ key }: HostKey): string {
  return `SHA256:${createHash('sha256').update(Buffer.from(key, 'base64')).digest('base64').replaceAll('=', '')}`;
}

export function isSameKey(a: HostKey, b: HostKey): boolean {
  return a.type === b.type && a.key === b.key;
}
