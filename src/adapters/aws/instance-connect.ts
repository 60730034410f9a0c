import type { Duplex } from 'node:stream';

import type { AwsOutcome, Metrics } from '../../ports/metrics.ts';
import { traced, type PathTrace } from '../../ports/path-trace.ts';
import type { HostKeyPolicy, SshCredential, SshEndpoint } from '../../ports/ssh-endpoint.ts';
import { outcomeOf } from './aws-errors.ts';
import type { AwsRegion } from './aws-region.ts';
import type { ConnectEndpoints } from './connect-endpoints.ts';
import { createEphemeralKey } from './ephemeral-key.ts';
import type { InstanceBatch } from './instance-batch.ts';
import type { Instance } from './instance.ts';
import { openTunnel } from './open-tunnel.ts';
import { presignTunnel } from './presign-tunnel.ts';
import type { TunnelSlots } from './tunnel-slots.ts';

/** Whose tunnel it is. */
export interface TunnelHolder {
  /** {@link SshEndpoint.id} */
  readonly sshId: string;
  /** The tunnel itself, once it is open: an instance may have an older one on which something still runs. */
  stream?: Duplex;
}

export interface InstanceConnectOptions {
  readonly region: AwsRegion;
  readonly batch: Pick<InstanceBatch, 'doubt'>;
  readonly endpoints: ConnectEndpoints;
  readonly slots: TunnelSlots<TunnelHolder>;
  /** As whom the login is, on every instance. */
  readonly user: string;
  /** How long a tunnel lives; left out: as long as AWS lets it, which is an hour. */
  readonly maxTunnelSeconds?: number | undefined;
  /** PEM of who may certify endpoints; left out: whom Node trusts. */
  readonly ca?: string | undefined;
  readonly metrics?: Pick<Metrics, 'awsAsked'> | undefined;
  readonly trace?: PathTrace | undefined;
}

/** Endpoints lead to no other port but this and that of remote desktops. */
const SSH_PORT = 22;
const LONGEST_TUNNEL_SECONDS = 3600;
/** AWS cuts a tunnel off in whatever it is doing, so it takes nothing new from here on. */
const USABLE_SHARE = 0.9;

/** Makes an SSH host of an instance that nothing but its Instance Connect endpoint can reach. */
export class InstanceConnect {
  readonly #options: InstanceConnectOptions;

  constructor(options: InstanceConnectOptions) {
    this.#options = options;
  }

  hostOf(instance: Instance, hostKeys: HostKeyPolicy): SshEndpoint {
    const { region, user, maxTunnelSeconds = LONGEST_TUNNEL_SECONDS } = this.#options;
    const id = `ec2:${instance.id}:${user}`;
    return {
      id,
      description: `instance ${instance.id} in ${region.name}`,
      identity: `ec2:${instance.id}`,
      user,
      dialer: { dial: (signal) => this.#dial(id, instance, signal) },
      credential: (signal) => this.#pushedKey(instance, signal),
      hostKeys,
      maxAgeMs: maxTunnelSeconds * 1000 * USABLE_SHARE,
    };
  }

  async #dial(id: string, instance: Instance, signal: AbortSignal): Promise<Duplex> {
    const { endpoints, slots, trace } = this.#options;
    const endpoint = await endpoints.endpointFor(instance, signal);
    const holder: TunnelHolder = { sshId: id };
    const place = await traced(trace, 'slot', (saw) => {
      saw({ limit: slots.limit });
      return slots.enter(endpoint.endpointId, holder, signal);
    });
    try {
      const stream = await this.#open(instance, endpoint, () => place.used(), signal);
      holder.stream = stream;
      stream.once('close', () => place.leave());
      stream.once('error', () => this.#doubt(instance));
      return stream;
    } catch (error) {
      place.leave();
      this.#doubt(instance);
      throw error;
    }
  }

  /** The instance may have stopped, or the endpoint may be another one by now. */
  #doubt(instance: Instance): void {
    this.#options.batch.doubt(instance.id);
    this.#options.endpoints.doubt(instance);
  }

  async #open(
    { id }: Instance,
    { endpointId, dnsName, address }: { endpointId: string; dnsName: string; address: string },
    onUse: () => void,
    signal: AbortSignal,
  ): Promise<Duplex> {
    const { region, maxTunnelSeconds, ca, metrics, trace } = this.#options;
    const tunnel = { dnsName, endpointId, remotePort: SSH_PORT, address, maxTunnelSeconds };
    const url = await presignTunnel(tunnel, await region.signingFacts(signal));
    const description = `instance ${id} through ${endpointId}`;
    const startedMs = region.clock.monotonic();
    const tell = (outcome: AwsOutcome): void =>
      metrics?.awsAsked(region.name, 'OpenTunnel', outcome, (region.clock.monotonic() - startedMs) / 1000);
    try {
      const stream = await openTunnel({ url, description, clock: region.clock, ca, onUse, trace }, signal);
      tell('ok');
      return stream;
    } catch (error) {
      tell(outcomeOf(error));
      throw error;
    }
  }

  /** Made anew for every login: nobody has it but this connection, and the instance takes it for a minute. */
  async #pushedKey({ id }: Instance, signal: AbortSignal): Promise<SshCredential> {
    const { region, user } = this.#options;
    const { publicKey, privateKey } = createEphemeralKey();
    await region.pushKey(id, user, publicKey, signal);
    return { kind: 'key', origin: 'made for this login', privateKey, isShortLived: true };
  }
}
