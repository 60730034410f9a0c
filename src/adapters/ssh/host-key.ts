import type { HostKey } from '../../ports/ssh-endpoint.ts';

/** A key as a host sends it: its blob begins with the length and the name of its type. */
export function hostKeyOf(blob: Buffer): HostKey {
  const length = blob.length < 4 ? 0 : blob.readUInt32BE(0);
  return { type: blob.toString('latin1', 4, 4 + length), key: blob.toString('base64') };
}

export function isSameKey(a: HostKey, b: HostKey): boolean {
  return a.type === b.type && a.key === b.key;
}
