import type { HostKey } from '../../ports/ssh-endpoint.ts';

const BEGIN = '-----BEGIN SSH HOST KEY KEYS-----';
const END = '-----END SSH HOST KEY KEYS-----';

/** A line may begin with the stamp of a logger: `<14>Apr  9 22:06:30 ec2: ssh-ed25519 AAAA… root@ip-10-0-0-5`. */
const KEY = /(?:^|\s)(ssh-ed25519|ecdsa-sha2-[a-z0-9-]+|ssh-rsa) (AAAA[A-Za-z0-9+/]+={0,2})(?:\s|$)/;

/**
 * The host keys that cloud-init printed on the console of an instance at its first boot; none while it has not, where it is
 * told not to, or when so much was printed since that they are gone. Of several blocks the last whole one counts.
 */
export function consoleHostKeys(output: string): readonly HostKey[] {
  const end = output.lastIndexOf(END);
  const begin = end === -1 ? -1 : output.lastIndexOf(BEGIN, end);
  if (begin === -1) return [];
  const keys: HostKey[] = [];
  for (const line of output.slice(begin + BEGIN.length, end).split(/\r?\n/)) {
    const [, type, key] = KEY.exec(line) ?? [];
    if (type !== undefined && key !== undefined) keys.push({ type, key });
  }
  return keys;
}
