import type { AllowedHosts } from '../../domain/access.ts';
import { isMatch, SSH_PORT } from '../../domain/allowed-host.ts';
import { terminal } from '../../domain/errors.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { endpointOf } from './endpoint-of.ts';
import type { PooledSshHosts } from './pooled-ssh-hosts.ts';
import { isSocketRefused } from './socket-dialer.ts';

type EngineHosts = Pick<PooledSshHosts, 'socketDialer' | 'commandDialer'>;

const DOCKER_SOCKET = '/var/run/docker.sock';

/**
 * The way to a Docker engine at `ssh://[user@]host[:port][/path/to/socket]`, as Docker's own client writes it; `undefined`
 * for an address of another kind. `allowed`: the hosts of engines; the first entry that has the host counts.
 */
export function engineDialer(
  address: string,
  allowed: readonly AllowedHosts[],
  hosts: EngineHosts,
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
  return forwarded(endpointOf(place, entry), /^\/?$/.test(pathname) ? undefined : pathname, hosts);
}

/**
 * A channel that sshd forwards to the socket; where it forwards to none, or the user may not open that, the command that
 * Docker's own client goes by, which a host may have allowed and nothing else.
 */
function forwarded(endpoint: SshEndpoint, path: string | undefined, hosts: EngineHosts): StreamDialer {
  const socket = hosts.socketDialer(endpoint, path ?? DOCKER_SOCKET);
  const command = dialStdio(path);
  if (command === undefined) return socket;
  return {
    dial: async (signal) => {
      try {
        return await socket.dial(signal);
      } catch (error) {
        if (!isSocketRefused(error)) throw error;
        return hosts.commandDialer({ endpoint, command, preface: error.message }).dial(signal);
      }
    },
  };
}

/** `undefined`: there is more in the path than every login shell leaves alone. */
function dialStdio(path: string | undefined): string | undefined {
  if (path === undefined) return 'docker system dial-stdio';
  return /^[A-Za-z0-9_./-]+$/.test(path) ? `docker --host unix://${path} system dial-stdio` : undefined;
}

/** Whoever points a workspace at the engine is told; the other engines go on. */
function refusing(message: string): StreamDialer {
  return {
    dial: () => Promise.reject(terminal('TargetNotAllowed', message)),
  };
}
