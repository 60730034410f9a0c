import { lookup } from 'node:dns/promises';
import { BlockList, isIP } from 'node:net';

import { aborted, ReconcileError, terminal, transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { HostLanes } from './host-lanes.ts';

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
  // The same, in its IPv6 clothes: mapped, and as a NAT64 gateway translates it.
  for (const clothes of ['::ffff:', '64:ff9b::']) REFUSED.addSubnet(`${clothes}${network}`, 96 + prefix, 'ipv6');
}
REFUSED.addAddress('::', 'ipv6');
REFUSED.addAddress('::1', 'ipv6');
REFUSED.addSubnet('fe80::', 10, 'ipv6');
REFUSED.addAddress('fd00:ec2::254', 'ipv6'); // Instance metadata of EC2 over IPv6.

/** A resolver that does not answer must not hold up the rest of the work. */
const LOOKUP_DEADLINE_MS = 10_000;

/** Lookups block a thread of Node's small pool each, and files are read on the same threads. */
const LOOKUPS_AT_A_TIME = 2;

/** Decides which hosts may be talked to, by their addresses. */
export class HostGuard {
  readonly #allowLoopback: boolean;
  readonly #clock: Clock;
  readonly #lookups = new HostLanes(LOOKUPS_AT_A_TIME);

  constructor(allowLoopback: boolean, clock: Clock) {
    this.#allowLoopback = allowLoopback;
    this.#clock = clock;
  }

  /**
   * The addresses of a host, all of them allowed; whoever connects must use these and not ask again. Throws
   * `InvalidSource` (terminal) for a refused one, `SourceUnavailable` (transient) when the name cannot be resolved.
   */
  async checkedAddresses(host: string, signal: AbortSignal): Promise<readonly string[]> {
    const deadline = new Deadline(this.#clock, LOOKUP_DEADLINE_MS, signal);
    try {
      const addresses = await this.#lookup(host, deadline);
      const refused = this.#allowLoopback ? undefined : addresses.find(isRefused);
      if (refused === undefined) return addresses;
      const rule = 'loopback and link-local addresses are not allowed as sources';
      throw terminal('InvalidSource', `host ${host} has the address ${refused}: ${rule}`);
    } catch (error) {
      if (signal.aborted) throw aborted('looking up a host was given up', signal.reason);
      if (error instanceof ReconcileError) throw error;
      const why =
        deadline.cause === 'expired' ? 'no answer' : ((error as NodeJS.ErrnoException).code ?? 'unknown error');
      throw transient('SourceUnavailable', `the address of host ${host} cannot be found (${why})`, error);
    } finally {
      deadline.clear();
    }
  }

  /** A lookup cannot be ended: its place is free again when it has ended by itself. */
  async #lookup(host: string, deadline: Deadline): Promise<readonly string[]> {
    const leave = await this.#lookups.enter('', deadline.signal);
    const looking = lookup(host.replaceAll(/^\[|\]$/g, ''), { all: true, order: 'verbatim' }).finally(leave);
    return (await deadline.race(looking)).map(({ address }) => address);
  }
}

function isRefused(address: string): boolean {
  const bare = address.split('%')[0] ?? address;
  return REFUSED.check(bare, isIP(bare) === 6 ? 'ipv6' : 'ipv4');
}
