import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';

import { terminal, transient } from '../../domain/errors.ts';

/**
 * Addresses that mean this machine, or the cloud's book-keeping about it. A source text comes from whoever may declare a
 * workspace, and must not make the controller talk to what only the controller can reach.
 */
const REFUSED = new BlockList();
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
] as const) {
  REFUSED.addSubnet(network, prefix, 'ipv4');
  // The same, in its IPv6 clothes.
  REFUSED.addSubnet(`::ffff:${network}`, 96 + prefix, 'ipv6');
}
REFUSED.addAddress('::', 'ipv6');
REFUSED.addAddress('::1', 'ipv6');
REFUSED.addSubnet('fe80::', 10, 'ipv6');
REFUSED.addAddress('fd00:ec2::254', 'ipv6'); // Instance metadata of EC2 over IPv6.

/**
 * The addresses of a host, all of them allowed; whoever connects must use these and not ask again. Throws
 * `InvalidSource` (terminal) for a refused one, `SourceUnavailable` (transient) when the name cannot be resolved.
 */
export async function checkedAddresses(host: string, allowLoopback: boolean): Promise<readonly string[]> {
  const name = host.replace(/^\[|\]$/g, '');
  const addresses = await lookup(name, { all: true, order: 'verbatim' }).catch((error: unknown) => {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw transient('SourceUnavailable', `the address of host ${host} cannot be found (${code})`, error);
  });
  const refused = addresses.find(({ address }) => !allowLoopback && isRefused(address));
  if (refused !== undefined) {
    throw terminal(
      'InvalidSource',
      `host ${host} has the address ${refused.address}: loopback and link-local addresses are not allowed as sources`,
    );
  }
  return addresses.map(({ address }) => address);
}

function isRefused(address: string): boolean {
  const bare = address.split('%')[0] ?? address;
  return REFUSED.check(bare, isIP(bare) === 6 ? 'ipv6' : 'ipv4');
}
