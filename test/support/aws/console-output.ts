import type { HostKey } from '../machine/ssh-machine.ts';

/**
 * What cloud-init leaves on the console at the first boot: the fingerprints through the logger, hence its prefix, and the keys
 * as they are. See canonical/cloud-init, tools/write-ssh-key-fingerprints.
 */
export function consoleOutput(hostname: string, hostKeys: readonly HostKey[]): string {
  const logged = (text: string): string => `<14>Nov 23 10:00:17 ec2: ${text}`;
  const lines = [
    '[    0.000000] Linux version 6.1.0-cloud-amd64 (debian-kernel@lists.debian.org)',
    `[   11.482913] cloud-init[612]: Cloud-init v. 22.4.2 running 'modules:final'. Up 11.47 seconds.`,
    logged(''),
    logged('#############################################################'),
    logged('-----BEGIN SSH HOST KEY FINGERPRINTS-----'),
    ...hostKeys.map(({ fingerprint, type }) => logged(`256 ${fingerprint} root@${hostname} (${kindOf(type)})`)),
    logged('-----END SSH HOST KEY FINGERPRINTS-----'),
    logged('#############################################################'),
    '-----BEGIN SSH HOST KEY KEYS-----',
    ...hostKeys.map(({ line }) => `${line} root@${hostname}`),
    '-----END SSH HOST KEY KEYS-----',
    `[   11.901127] cloud-init[612]: Cloud-init v. 22.4.2 finished. Datasource DataSourceEc2Local. Up 11.88 seconds`,
    '',
    `Debian GNU/Linux 12 ${hostname} ttyS0`,
    '',
    `${hostname} login: `,
  ];
  return lines.join('\r\n');
}

function kindOf(type: string): string {
  return type === 'ssh-ed25519' ? 'ED25519' : 'ECDSA';
}
