import { createHmac } from 'node:crypto';

import { isMatch } from '../../domain/allowed-host.ts';
import type { HostKey } from '../../ports/ssh-endpoint.ts';

/** What a host is called in a file of known hosts, and in a pin: the port shows where it is not the usual one. */
export function hostName(host: string, port: number): string {
  return port === 22 ? host : `[${host}]:${port}`;
}

/**
 * The keys that a file in the format of OpenSSH has for a host (`sshd(8)`, SSH_KNOWN_HOSTS FILE FORMAT), hashed names
 * included. A key that is marked as revoked is none. Authorities are passed over: ssh2 knows no certificates.
 */
export function keysFor(name: string, knownHosts: string): readonly HostKey[] {
  const lines = linesOf(knownHosts);
  const revoked = new Set(revokedIn(knownHosts).map(({ key }) => key));
  return lines
    .filter(({ marker, hosts, key }) => marker === '' && !revoked.has(key.key) && isAmong(name, hosts))
    .map(({ key }) => key);
}

/** The keys that such a file marks as revoked, for whatever hosts: a key that was stolen is no better elsewhere. */
export function revokedIn(knownHosts: string): readonly HostKey[] {
  return linesOf(knownHosts)
    .filter(({ marker }) => marker === '@revoked')
    .map(({ key }) => key);
}

interface Line {
  readonly marker: string;
  readonly hosts: string;
  readonly key: HostKey;
}

function linesOf(knownHosts: string): readonly Line[] {
  return knownHosts
    .split('\n')
    .map(parseLine)
    .filter((line) => line !== undefined);
}

function parseLine(line: string): Line | undefined {
  const match = /^\s*(?:(@\S+)\s+)?([^#\s]\S*)\s+(\S+)\s+([A-Za-z0-9+/=]+)/.exec(line);
  if (match === null) return undefined;
  const [, marker = '', hosts = '', type = '', key = ''] = match;
  return { marker, hosts, key: { type, key } };
}

/** `hosts`: a hashed name, or patterns between commas; one with `!` that matches excludes. */
function isAmong(name: string, hosts: string): boolean {
  if (hosts.startsWith('|')) return isHashOf(name, hosts);
  const patterns = hosts.split(',');
  return (
    patterns.some((pattern) => isMatch(name, pattern)) &&
    !patterns.some((pattern) => pattern.startsWith('!') && isMatch(name, pattern.slice(1)))
  );
}

function isHashOf(name: string, hashed: string): boolean {
  const [, kind, salt = '', hash] = hashed.split('|');
  return kind === '1' && createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === hash;
}
