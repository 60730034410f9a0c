import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { connect, rootCertificates, type ConnectionOptions } from 'node:tls';

import { transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';

/** Where systems keep the certificates that they trust; Go looks in the same places. */
const SYSTEM_BUNDLES = [
  '/etc/ssl/certs/ca-certificates.crt', // Debian, Alpine, Arch
  '/etc/pki/tls/certs/ca-bundle.crt', // Fedora, RHEL
  '/etc/ssl/ca-bundle.pem', // SUSE
  '/etc/ssl/cert.pem', // macOS, BSD
];

const HANDSHAKE_DEADLINE_MS = 5_000;

/**
 * The certificates of the system together with those of a file, since git takes one or the other. Read anew each time:
 * certificates are renewed. Throws `SourceUnavailable` (transient) when the file is of no use.
 */
export async function bundleWith(caFile: string): Promise<string> {
  try {
    const own = await readFile(caFile, 'utf8');
    // Throws unless it begins with a certificate.
    void new X509Certificate(own);
    return `${own}\n${await systemBundle()}`;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw transient('SourceUnavailable', `the CA file ${caFile} cannot be used (${code})`, error);
  }
}

async function systemBundle(): Promise<string> {
  for (const path of SYSTEM_BUNDLES) {
    const text = await readFile(path, 'utf8').catch(() => '');
    if (text !== '') return text;
  }
  return rootCertificates.join('\n');
}

export interface Handshake {
  readonly host: string;
  readonly port: number;
  /** The one that is connected to. */
  readonly address: string;
  readonly caFile: string | undefined;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * The code of what is wrong with the certificate of a server (`CERT_HAS_EXPIRED`, `SELF_SIGNED_CERT_IN_CHAIN` …), by a TLS
 * handshake that sends nothing else: git has a text for it, which differs between its TLS libraries, and no code.
 * `undefined` when nothing is, and when that cannot be said.
 */
export async function certificateProblem(handshake: Handshake): Promise<string | undefined> {
  const { address, caFile, clock, host, port, signal } = handshake;
  const name = host.replaceAll(/^\[|\]$/g, '');
  const deadline = new Deadline(clock, HANDSHAKE_DEADLINE_MS, signal);
  try {
    const ca = caFile === undefined ? await systemBundle() : await bundleWith(caFile);
    // No name is sent for an address; the certificate is compared with the address then.
    const servername = isIP(name) === 0 ? name : '';
    return await deadline.race(shakeHands({ host: address, port, servername, ca }, deadline));
  } catch {
    return undefined;
  } finally {
    deadline.clear();
  }
}

async function shakeHands(options: ConnectionOptions, deadline: Deadline): Promise<string | undefined> {
  // It is asked what is wrong; nothing that comes over this connection is believed.
  const socket = connect({ ...options, rejectUnauthorized: false });
  deadline.onEnd(() => socket.destroy());
  try {
    return await new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('secureConnect', () => {
        const code: unknown = socket.authorizationError;
        resolve(typeof code === 'string' ? code : undefined);
      });
    });
  } finally {
    socket.destroy();
  }
}
