import { readFile } from 'node:fs/promises';

import type { AllowedHosts } from '../../domain/access.ts';
import type { HostPlace } from '../../domain/allowed-host.ts';
import { terminal } from '../../domain/errors.ts';
import type { HostKeyPolicy, SshCredential, SshEndpoint } from '../../ports/ssh-endpoint.ts';
import { hostName, keysFor, revokedIn } from './known-hosts.ts';
import { TcpDialer } from './tcp-dialer.ts';

/** A host that is reached straight, and logged in to as the operator says. */
export function endpointOf({ host, port, user }: HostPlace, allowed: AllowedHosts): SshEndpoint {
  const name = hostName(host, port);
  return {
    id: idOf(user, name, allowed),
    description: `host ${user}@${name}`,
    user,
    dialer: new TcpDialer(host, port),
    credential: () => credentialOf(allowed),
    hostKeys: policyOf(name, allowed),
  };
}

/**
 * Whoever would log in with another key, or believe another host, gets a connection of his own: on that of somebody else he
 * would be let in, or talk to whom he must not believe.
 */
function idOf(user: string, name: string, { agent, keyFile, knownHostsFile, firstContact }: AllowedHosts): string {
  const how = [agent, keyFile, knownHostsFile, firstContact].map((part) => encodeURIComponent(part ?? ''));
  return `ssh:${user}@${name} ${how.join(' ')}`;
}

/** Read anew for every connection, so that a key that was exchanged is taken up. */
async function credentialOf({ agent, keyFile }: AllowedHosts): Promise<SshCredential> {
  if (agent !== undefined) return { kind: 'agent', socket: agent };
  if (keyFile === undefined)
    throw terminal('AuthenticationFailed', 'targets.ssh names neither a keyFile nor an agent for the host');
  const privateKey = await readOperatorFile(keyFile);
  const { default: ssh2 } = await import('ssh2');
  const parsed = ssh2.utils.parseKey(privateKey);
  if (!(parsed instanceof Error) && parsed.isPrivateKey()) return { kind: 'key', origin: keyFile, privateKey };
  if (!(parsed instanceof Error))
    throw terminal('AuthenticationFailed', `${keyFile} holds a public key; name the file of the private one (keyFile)`);
  const text = `${keyFile} holds no private key that can be used: it has a passphrase, or a format other than OpenSSH and PEM`;
  throw terminal('AuthenticationFailed', text, parsed);
}

function policyOf(name: string, { knownHostsFile, firstContact }: AllowedHosts): HostKeyPolicy {
  const knownHosts = async (): Promise<string> =>
    knownHostsFile === undefined ? '' : readOperatorFile(knownHostsFile);
  return {
    name,
    policy: firstContact,
    voucher: knownHostsFile ?? 'nobody',
    ask: 'always',
    vouchedFor: async () => keysFor(name, await knownHosts()),
    revoked: async () => revokedIn(await knownHosts()),
    firstContact,
  };
}

async function readOperatorFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    throw terminal('AuthenticationFailed', `${path} of targets.ssh cannot be read (${code})`, error);
  }
}
