import type { Ec2InstanceConnectEndpoint } from '@aws-sdk/client-ec2';

import { terminal, waiting, type ReconcileError } from '../../domain/errors.ts';
import { untilAborted } from '../../ports/abort.ts';
import { traced, type Facts, type PathTrace } from '../../ports/path-trace.ts';
import type { AwsRegion } from './aws-region.ts';
import type { Instance } from './instance.ts';

/** The way to one instance. */
export interface ConnectEndpoint {
  readonly endpointId: string;
  readonly dnsName: string;
  /** Of the instance, in a family that the endpoint can reach. */
  readonly address: string;
}

export interface ConnectEndpointsOptions {
  readonly region: AwsRegion;
  /** The one to use, whatever else there is; left out: that of the instance's subnet, else one of its VPC. */
  readonly endpointId?: string | undefined;
  readonly fips?: boolean | undefined;
  readonly trace?: PathTrace | undefined;
}

/** How long an answer is used; sooner when a tunnel fails. */
const FRESH_MS = 300_000;
const RETRY_MS = 15_000;

/** One that is or was being changed works on: only older clients insist on create-complete (aws/aws-cli#9715). */
const USABLE = new Set(['create-complete', 'update-in-progress', 'update-complete', 'update-failed']);
const COMING = 'create-in-progress';

interface Choice {
  readonly chosen: Ec2InstanceConnectEndpoint;
  readonly endpoint: ConnectEndpoint;
}

interface Cached {
  readonly askedAt: number;
  readonly answer: Promise<readonly Ec2InstanceConnectEndpoint[]>;
}

/** Instance Connect endpoints of one region. One question per VPC serves all of its instances for minutes. */
export class ConnectEndpoints {
  readonly #options: ConnectEndpointsOptions;
  readonly #cache = new Map<string, Cached>();
  readonly #closing = new AbortController();

  constructor(options: ConnectEndpointsOptions) {
    this.#options = options;
  }

  /** Throws `EndpointMissing`: waiting while one is being made, else terminal. */
  endpointFor(instance: Instance, signal: AbortSignal): Promise<ConnectEndpoint> {
    return traced(this.#options.trace, 'endpoint', async (saw) => {
      const { vpcId: vpc, subnetId: subnet } = instance;
      saw({ vpc, subnet });
      const { chosen, endpoint } = await this.#choose(instance, signal);
      saw(this.#factsOf(chosen, instance));
      return endpoint;
    });
  }

  async #choose(instance: Instance, signal: AbortSignal): Promise<Choice> {
    const { fips = false } = this.#options;
    const all = await this.#known(instance, signal);
    const usable = all
      .filter(({ State }) => USABLE.has(State ?? ''))
      .toSorted((a, b) => rank(a, instance) - rank(b, instance) || compare(idOf(a), idOf(b)));
    for (const endpoint of usable) {
      const dnsName = fips ? endpoint.FipsDnsName : endpoint.DnsName;
      const address = addressFor(instance, endpoint);
      // An empty name is how AWS says that it has none.
      if (dnsName && address !== undefined) {
        return { chosen: endpoint, endpoint: { endpointId: idOf(endpoint), dnsName, address } };
      }
    }
    // Somebody is going to mend that.
    this.doubt(instance);
    throw this.#missing(instance, all, usable);
  }

  #factsOf(chosen: Ec2InstanceConnectEndpoint, instance: Instance): Facts {
    const { endpointId } = this.#options;
    const isNear = rank(chosen, instance) === 0;
    const inVpc = isNear ? 'it is in the subnet of the instance' : 'it is in the VPC, and none is in the subnet';
    return {
      endpoint: idOf(chosen),
      state: chosen.State,
      because: endpointId === undefined ? inVpc : 'the configuration names it',
    };
  }

  /** A tunnel has failed: what is known of the endpoints of this instance may be out of date. */
  doubt(instance: Instance): void {
    this.#cache.delete(this.#keyOf(instance));
  }

  close(): void {
    this.#closing.abort();
  }

  #keyOf(instance: Instance): string {
    return this.#options.endpointId ?? instance.vpcId ?? '';
  }

  async #known(instance: Instance, signal: AbortSignal): Promise<readonly Ec2InstanceConnectEndpoint[]> {
    const { region, endpointId } = this.#options;
    const key = this.#keyOf(instance);
    const now = region.clock.monotonic();
    let cached = this.#cache.get(key);
    if (cached === undefined || now - cached.askedAt > FRESH_MS) {
      const which = endpointId === undefined ? { vpcId: key } : { endpointId };
      const asked: Cached = { askedAt: now, answer: region.connectEndpoints(which, this.#closing.signal) };
      this.#cache.set(key, asked);
      // A failure is nothing to remember, also where nobody waits for it any more.
      asked.answer.catch(() => {
        if (this.#cache.get(key) === asked) this.#cache.delete(key);
      });
      cached = asked;
    }
    return untilAborted(cached.answer, signal);
  }

  #missing(
    { id, vpcId = 'none' }: Instance,
    all: readonly Ec2InstanceConnectEndpoint[],
    usable: readonly Ec2InstanceConnectEndpoint[],
  ): ReconcileError {
    const { endpointId, fips = false, region } = this.#options;
    const where = endpointId ?? `VPC ${vpcId} in ${region.name}`;
    const coming = all.find(({ State }) => State === COMING);
    if (coming !== undefined) {
      const text = `instance ${id}: its Instance Connect endpoint ${idOf(coming)} is being made`;
      return waiting('EndpointMissing', text, RETRY_MS);
    }
    const seen = all.map((endpoint) => `${idOf(endpoint)} is ${endpoint.State ?? 'in no state'}`).join(', ');
    if (usable.length === 0) {
      return terminal(
        'EndpointMissing',
        `instance ${id}: no Instance Connect endpoint can be used (${where}${seen === '' ? '' : `: ${seen}`})`,
      );
    }
    const lack = fips ? 'a FIPS name and an address of its family' : 'an address of its family';
    return terminal(
      'EndpointMissing',
      `instance ${id}: no Instance Connect endpoint of it has ${lack} (${where}: ${seen})`,
    );
  }
}

function rank(endpoint: Ec2InstanceConnectEndpoint, instance: Instance): number {
  return endpoint.SubnetId !== undefined && endpoint.SubnetId === instance.subnetId ? 0 : 1;
}

function addressFor({ ipv4, ipv6 }: Instance, { IpAddressType }: Ec2InstanceConnectEndpoint): string | undefined {
  if (IpAddressType === 'ipv6') return ipv6;
  if (IpAddressType === 'ipv4') return ipv4;
  return ipv4 ?? ipv6;
}

function idOf({ InstanceConnectEndpointId = '' }: Ec2InstanceConnectEndpoint): string {
  return InstanceConnectEndpointId;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
