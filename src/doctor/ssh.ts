import { readFile, stat } from 'node:fs/promises';

import type { Config } from '../config.ts';
import type { AllowedHosts } from '../domain/access.ts';
import { causeOf } from '../domain/error-code.ts';
import { fail, ok, warn, type Check, type Seen } from './check.ts';
import type { Declarations } from './declarations.ts';
import { cannotBeRead, secretFile } from './files.ts';

/** Whether the hosts that workspaces and engines may name can be logged in to, as far as this machine can tell. */
export function sshChecks(
  config: Pick<Config, 'sshHosts' | 'engineHosts'>,
  declarations: Promise<Declarations>,
): readonly Check[] {
  const known = declarations.catch(() => undefined);
  return [
    ...[...config.sshHosts, ...config.engineHosts].map((entry) => ({
      name: `ssh ${entry.hosts.join(',')}`,
      look: async () => [...(await loginSeen(entry)), ...(await knownHostsSeen(entry))],
    })),
    { name: 'ssh hosts', look: () => missingHosts(config, known) },
  ];
}

async function loginSeen({ agent, keyFile }: AllowedHosts): Promise<readonly Seen[]> {
  if (agent !== undefined) return [await agentSeen(agent)];
  if (keyFile === undefined)
    return [fail('neither a key nor an agent is named', 'Name one: keyFile or agent below targets.ssh.')];
  return secretFile(keyFile, 'keyFile below targets.ssh', async () => {
    const { default: ssh2 } = await import('ssh2');
    const parsed = ssh2.utils.parseKey(await readFile(keyFile));
    if (!(parsed instanceof Error) && parsed.isPrivateKey()) return ok(`${keyFile} holds a private key`);
    if (!(parsed instanceof Error))
      return fail(`${keyFile} holds a public key`, 'Name the file of the private one: keyFile below targets.ssh.');
    const fix = 'Name a key without a passphrase (ssh-keygen -p takes it off), or have an agent hold it (agent).';
    return fail(`${keyFile} holds no private key that can be used without a passphrase`, fix);
  });
}

async function agentSeen(socket: string): Promise<Seen> {
  try {
    if ((await stat(socket)).isSocket()) return ok(`an agent is at ${socket}`);
    return fail(`${socket} is no socket`, 'Name the socket of an SSH agent: agent below targets.ssh.');
  } catch (error) {
    return fail(`there is no agent at ${socket} (${causeOf(error)})`, 'Start it there: ssh-agent -a SOCKET.');
  }
}

async function knownHostsSeen({ knownHostsFile, firstContact }: AllowedHosts): Promise<readonly Seen[]> {
  if (knownHostsFile !== undefined) {
    const unreadable = await cannotBeRead(knownHostsFile, 'knownHostsFile below targets.ssh');
    return [unreadable ?? ok(`keys of hosts are taken from ${knownHostsFile}`)];
  }
  if (firstContact === 'tofu')
    return [warn('the first key that a host shows is believed', 'Name a knownHostsFile, where you have the keys.')];
  return [
    warn(
      'nothing vouches for the key of a host but `plugset hostkey pin`; one without a pin is refused',
      'Name a knownHostsFile, pin each key, or set firstContact to tofu.',
    ),
  ];
}

async function missingHosts(
  { sshHosts }: Pick<Config, 'sshHosts'>,
  known: Promise<Declarations | undefined>,
): Promise<readonly Seen[]> {
  if (sshHosts.length > 0 || (await known)?.hasSshHosts !== true) return [];
  return [
    fail('workspaces are hosts, and no host is allowed', 'Say which, and how they are logged in to: targets.ssh.'),
  ];
}
