import { isFor, type AllowedRegion, type Ec2Access } from '../../domain/access.ts';
import { terminal } from '../../domain/errors.ts';
import { findProfile, type RuntimeProfile } from '../../domain/profile.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { PathTrace } from '../../ports/path-trace.ts';
import type { SshHosts } from '../../ports/ssh-endpoint.ts';
import type { TargetFate, TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { AwsRegion, type AwsRegionOptions } from './aws-region.ts';
import { ConnectEndpoints } from './connect-endpoints.ts';
import { hostKeyPolicy } from './console-policy.ts';
import { Ec2WorkspaceTarget } from './ec2-workspace-target.ts';
import { findInstance, isAllowed, type Search } from './find-instance.ts';
import { instanceAddress, instanceAt } from './instance-address.ts';
import { InstanceBatch } from './instance-batch.ts';
import { InstanceConnect, type TunnelHolder } from './instance-connect.ts';
import { instanceFates } from './instance-fates.ts';
import { InstanceRules } from './instance-rules.ts';
import { TunnelSlots } from './tunnel-slots.ts';

export interface Ec2TargetOptions {
  /** What the operator allows; the first region is meant where a workspace names none. */
  readonly access: Ec2Access;
  /** Their activation is how runtimes are restarted. */
  readonly profiles: readonly RuntimeProfile[];
  readonly hosts: SshHosts;
  readonly clock: Clock;
  /** Where AWS is and who asks it; left out: as the SDK finds it in environment, profile or instance. */
  readonly aws?: Pick<AwsRegionOptions, 'credentials' | 'endpoints' | 'ca' | 'requestTimeoutMs'> | undefined;
  readonly metrics?: Pick<Metrics, 'awsAsked' | 'tunnelWaited' | 'observeTunnels'> | undefined;
  readonly trace?: PathTrace | undefined;
}

interface Region {
  readonly region: AwsRegion;
  readonly batch: InstanceBatch;
  readonly ways: readonly Way[];
}

/** To the instances of one entry of a region. */
interface Way {
  readonly allowed: AllowedRegion;
  readonly endpoints: ConnectEndpoints;
  readonly connect: InstanceConnect;
}

/** Workspaces that are EC2 instances, reached through EC2 Instance Connect and nothing else. */
export class Ec2TargetProvider implements TargetProvider {
  readonly kind = 'ec2';
  readonly #options: Ec2TargetOptions;
  readonly #rules: InstanceRules;
  readonly #slots: TunnelSlots<TunnelHolder>;
  readonly #regions: ReadonlyMap<string, Region>;

  /** Asks nobody anything. */
  constructor(options: Ec2TargetOptions) {
    this.#options = options;
    this.#rules = new InstanceRules(options.access.rules);
    const { access, clock, hosts, metrics } = options;
    this.#slots = new TunnelSlots({
      limit: access.tunnelsPerEndpoint,
      clock,
      // One that is still being opened is used as soon as it is.
      makeRoom: ({ sshId, stream }) => stream && hosts.release(sshId, stream),
      metrics,
    });
    metrics?.observeTunnels(() => this.#slots.state());
    const names = new Set(access.regions.map(({ name }) => name));
    this.#regions = new Map([...names].map((name) => [name, this.#regionOf(name)]));
  }

  addresses(workspace: Workspace): readonly string[] {
    const { region, instanceId, tags } = this.#declared(workspace);
    const named = instanceId ?? (tags === undefined ? this.#rules.namedByOperator(workspace) : undefined);
    if (named !== undefined) return [instanceAddress(region, named)];
    const wanted =
      tags === undefined
        ? this.#rules.tagValues(workspace).map((value) => [[this.#rules.tag, value]])
        : [entriesOf(tags)];
    return wanted.map((entries) => `ec2:${region}:tags:${JSON.stringify(entries)}`);
  }

  lane(workspace: Workspace): string {
    return `ec2:${this.#declared(workspace).region}`;
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const { access, profiles, hosts } = this.#options;
    const { region, batch, ways } = this.#allowedFor(workspace);
    const declared = this.#declared(workspace);
    const entries = ways.map(({ allowed }) => allowed);
    const search: Search = { batch, region: region.name, rules: this.#rules, workspace, entries, declared };
    const instance = await findInstance(search, signal);
    const way = ways.find(({ allowed }) => isAllowed(instance, allowed));
    if (way === undefined) throw terminal('Internal', `instance ${instance.id} was found and is of no entry`);
    const endpoint = way.connect.hostOf(instance, hostKeyPolicy(region, instance, access.hostKeys));
    const activation = findProfile(profiles, workspace.runtime)?.activation;
    const host = await hosts.locate(endpoint, activation, signal);
    return new Ec2WorkspaceTarget(host, (until) => findInstance(search, until));
  }

  async fatesOf(addresses: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, TargetFate>> {
    const instances = addresses.flatMap((address) => instanceAt(address) ?? []);
    const asked = [...this.#regions.values()].map(({ region }) => {
      const ids = instances.filter((instance) => instance.region === region.name).map(({ instanceId }) => instanceId);
      return instanceFates(region, ids, signal);
    });
    const answers = await Promise.allSettled(asked);
    // One that is denied says nothing about the others.
    const told = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [...answer.value] : []));
    if (told.length === 0) await Promise.all(asked);
    return new Map(told);
  }

  /** Gives its tunnels back: whoever comes after it, under other settings, counts from none. */
  async close(): Promise<void> {
    for (const { sshId, stream } of this.#slots.holders()) this.#options.hosts.release(sshId, stream);
    for (const { region, batch, ways } of this.#regions.values()) {
      batch.close();
      for (const { endpoints } of ways) endpoints.close();
      region.close();
    }
  }

  #regionOf(name: string): Region {
    const { access, clock, aws, metrics, trace } = this.#options;
    const region = new AwsRegion({ ...aws, region: name, clock, fips: access.fips, metrics, trace });
    const batch = new InstanceBatch(region);
    const entries = access.regions.filter((allowed) => allowed.name === name);
    return { region, batch, ways: entries.map((allowed) => this.#wayOf(allowed, region, batch)) };
  }

  #wayOf(allowed: AllowedRegion, region: AwsRegion, batch: InstanceBatch): Way {
    const { access, aws, metrics, trace } = this.#options;
    const { fips, user, maxTunnelSeconds } = access;
    const endpoints = new ConnectEndpoints({ region, endpointId: allowed.endpoint, fips, trace });
    const ca = aws?.ca;
    const slots = this.#slots;
    const connect = new InstanceConnect({
      region,
      batch,
      endpoints,
      slots,
      user,
      maxTunnelSeconds,
      ca,
      metrics,
      trace,
    });
    return { allowed, endpoints, connect };
  }

  /** The region of a workspace, with what of it is for that one. */
  #allowedFor(workspace: Workspace): Region {
    const { region: name } = this.#declared(workspace);
    const region = this.#regions.get(name);
    const ways = region?.ways.filter(({ allowed }) => isFor(workspace.key, allowed)) ?? [];
    if (region !== undefined && ways.length > 0) return { ...region, ways };
    const why =
      this.#regions.size === 0
        ? 'is an EC2 instance, and the operator has allowed no region'
        : `is in region ${name}, which the operator has not given to its namespace`;
    throw terminal('TargetNotAllowed', `workspace ${workspace.key} ${why} (targets.ec2.regions, namespaces)`);
  }

  #declared(workspace: Workspace): Search['declared'] & { readonly region: string } {
    if (!('ec2' in workspace.target)) {
      throw terminal('Internal', `workspace ${workspace.key} has no ec2 target and reached the ec2 provider`);
    }
    const { regions } = this.#options.access;
    const first = regions.find((allowed) => isFor(workspace.key, allowed)) ?? regions[0];
    const { region = first?.name ?? 'none', ...declared } = workspace.target.ec2;
    return { ...declared, region };
  }
}

function entriesOf(tags: Readonly<Record<string, string>>): readonly (readonly [string, string])[] {
  return Object.entries(tags).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
