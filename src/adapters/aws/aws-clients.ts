import { Agent } from 'node:https';

import type { EC2Client } from '@aws-sdk/client-ec2';
import type { EC2InstanceConnectClient } from '@aws-sdk/client-ec2-instance-connect';

import type { AwsCredentials } from './presign-tunnel.ts';

export interface AwsClientsOptions {
  readonly region: string;
  /** Left out: what the SDK finds (environment, profile, web identity, container, instance). */
  readonly credentials?: AwsCredentials | undefined;
  /** Where the APIs are; left out: where AWS has them, or where its own settings say. */
  readonly endpoints?: { readonly ec2?: string; readonly instanceConnect?: string } | undefined;
  readonly fips?: boolean | undefined;
  /** PEM of who may certify the APIs; left out: whom Node trusts. */
  readonly ca?: string | undefined;
}

/** The first attempt, and two more that the SDK spreads out by itself. */
const MAX_ATTEMPTS = 3;
const CONNECT_TIMEOUT_MS = 5_000;

/**
 * The SDK's own clients of one region, each made when it is first needed. The SDK is loaded with the first: it costs a third
 * of a second and 85 MB, which a command that asks AWS nothing should not pay.
 */
export class AwsClients {
  readonly #options: AwsClientsOptions;
  #ec2: EC2Client | undefined;
  #instanceConnect: EC2InstanceConnectClient | undefined;

  constructor(options: AwsClientsOptions) {
    this.#options = options;
  }

  async ec2(): Promise<EC2Client> {
    const { EC2Client: Client } = await import('@aws-sdk/client-ec2');
    this.#ec2 ??= new Client(this.#settings(this.#options.endpoints?.ec2));
    return this.#ec2;
  }

  async instanceConnect(): Promise<EC2InstanceConnectClient> {
    const { EC2InstanceConnectClient: Client } = await import('@aws-sdk/client-ec2-instance-connect');
    this.#instanceConnect ??= new Client(this.#settings(this.#options.endpoints?.instanceConnect));
    return this.#instanceConnect;
  }

  close(): void {
    this.#ec2?.destroy();
    this.#instanceConnect?.destroy();
  }

  #settings(endpoint: string | undefined) {
    const { region, credentials, fips = false, ca } = this.#options;
    // The SDK takes no more than one of the two.
    const where = endpoint === undefined ? { ...(fips ? { useFipsEndpoint: true } : {}) } : { endpoint };
    return {
      region,
      maxAttempts: MAX_ATTEMPTS,
      ...(credentials === undefined ? {} : { credentials }),
      ...where,
      requestHandler: {
        connectionTimeout: CONNECT_TIMEOUT_MS,
        ...(ca === undefined ? {} : { httpsAgent: new Agent({ keepAlive: true, ca }) }),
      },
    };
  }
}
