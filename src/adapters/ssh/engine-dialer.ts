import type { AllowedHosts } from '../../domain/access.ts';
import { isMatch, SSH_PORT } from '../../domain/allowed-host.ts';
import { terminal } from '../../domain/errors.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { endpointOf } from './endpoint-of.ts';
import type { PooledSshHosts } from './pooled-ssh-hosts.ts';

const DOCKER_SOCKET = '/var/run/docker.sock';

/**
 * The way to a Docker engine at `ssh://[user@]host[:port][/path/to/socket]`, as Docker's own client writes it; `undefined`
 * for an address of another kind. `allowed`: the hosts of engines; the first entry that has the host counts.
 */
export function engineDialer(
  address: string,
  allowed: readonly AllowedHosts[],
  hosts: Pick<PooledSshHosts, 'socketDialer'>,
): StreamDialer | undefined {
  if (!address.startsWith('ssh://')) return undefined;
  const { hostname, port, username, pathname } = new URL(address);
  // Node keeps the brackets of an IPv6 address.
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const entry = allowed.find(({ hosts: patterns }) => patterns.some((pattern) => isMatch(host, pattern)));
  if (entry === undefined)
    return refusing(`no entry of targets.ssh that is for engines has the host ${host} of ${address}`);
  const user = username === '' ? entry.user : decodeURIComponent(username);
  if (user === undefined) return refusing(`neither ${address} nor targets.ssh names the user who logs in`);
  const place = { host, port: port === '' ? (entry.port ?? SSH_PORT) : Number(port), user };
  return hosts.socketDialer(endpointOf(place, entry), /^\/?$/.test(pathname) ? DOCKER_SOCKET : pathname);
}

/** Whoever points a workspace at the engine is told; the other engines go on. */
function refusing(message: string): StreamDialer {
  return {
    dial: () => Promise.reject(terminal('TargetNotAllowed', message)),
  };
}
