import { Agent } from 'node:https';

import type { DescribeInstancesCommandInput, EC2Client, Ec2InstanceConnectEndpoint } from '@aws-sdk/client-ec2';
import type { EC2InstanceConnectClient } from '@aws-sdk/client-ec2-instance-connect';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { AwsAction, AwsOutcome, Metrics } from '../../ports/metrics.ts';
import { traced, type PathTrace, type Saw } from '../../ports/path-trace.ts';
import { classifyAws, factsOf, outcomeOf, type AwsQuestion } from './aws-errors.ts';
import { credentialSource } from './credential-source.ts';
import { instanceFrom, type Instance } from './instance.ts';
import type { AwsCredentials, SigningFacts } from './presign-tunnel.ts';

export interface AwsRegionOptions {
  readonly region: string;
  readonly clock: Clock;
  /** Left out: what the SDK finds (environment, profile, web identity, container, instance). */
  readonly credentials?: AwsCredentials | undefined;
  /** Where the APIs are; left out: where AWS has them, or where its own settings say. */
  readonly endpoints?: { readonly ec2?: string; readonly instanceConnect?: string } | undefined;
  readonly fips?: boolean | undefined;
  /** PEM of who may certify the APIs; left out: whom Node trusts. */
  readonly ca?: string | undefined;
  /** For one question, its pages and repetitions included. Default 20 s. */
  readonly requestTimeoutMs?: number | undefined;
  readonly metrics?: Pick<Metrics, 'awsAsked'> | undefined;
  readonly trace?: PathTrace | undefined;
}

/** One condition of a question; its values are alternatives. */
export type Filter = NonNullable<DescribeInstancesCommandInput['Filters']>[number];

const REQUEST_TIMEOUT_MS = 20_000;
type ApiAction = Exclude<AwsAction, 'OpenTunnel'>;

/** What steps of the way are called that ask AWS. */
const STEPS: Readonly<Record<ApiAction, string>> = {
  DescribeInstances: 'instance',
  DescribeInstanceConnectEndpoints: 'endpoints',
  GetConsoleOutput: 'console',
  SendSSHPublicKey: 'key push',
};
/** The first attempt, and two more that the SDK spreads out by itself. */
const MAX_ATTEMPTS = 3;
const CONNECT_TIMEOUT_MS = 5_000;
const INSTANCES_PER_PAGE = 1000;
const ENDPOINTS_PER_PAGE = 50;

/**
 * The APIs of one region, as few questions as plugset has. The SDK is loaded with the first: it costs a third of a second
 * and 85 MB, which a command that needs none of it should not pay.
 */
export class AwsRegion {
  readonly name: string;
  readonly clock: Clock;
  readonly #options: AwsRegionOptions;
  #ec2: EC2Client | undefined;
  #instanceConnect: EC2InstanceConnectClient | undefined;
  #introduced: Promise<unknown> | undefined;

  constructor(options: AwsRegionOptions) {
    this.name = options.region;
    this.clock = options.clock;
    this.#options = options;
  }

  /** Every instance that all of the filters fit. `subject`: what that asks for, for messages. */
  async instances(filters: Filter[], signal: AbortSignal, subject?: string): Promise<readonly Instance[]> {
    return this.#ask({ action: 'DescribeInstances', subject }, signal, async (abortSignal, saw) => {
      const { paginateDescribeInstances } = await import('@aws-sdk/client-ec2');
      const paging = { client: await this.#ec2Client(), pageSize: INSTANCES_PER_PAGE };
      const found: Instance[] = [];
      for await (const page of paginateDescribeInstances(paging, { Filters: filters }, { abortSignal })) {
        saw(factsOf(page));
        for (const { Instances = [] } of page.Reservations ?? []) found.push(...Instances.map(instanceFrom));
      }
      saw({ found: found.map(({ id, state }) => `${id} (${state})`).join(', ') || 'none' });
      return found;
    });
  }

  /** Endpoints of a VPC in whatever state, or the one of that id. */
  async connectEndpoints(
    which: { readonly vpcId: string } | { readonly endpointId: string },
    signal: AbortSignal,
  ): Promise<readonly Ec2InstanceConnectEndpoint[]> {
    return this.#ask({ action: 'DescribeInstanceConnectEndpoints' }, signal, async (abortSignal, saw) => {
      const { paginateDescribeInstanceConnectEndpoints } = await import('@aws-sdk/client-ec2');
      const paging = { client: await this.#ec2Client(), pageSize: ENDPOINTS_PER_PAGE };
      const filter: Filter =
        'vpcId' in which
          ? { Name: 'vpc-id', Values: [which.vpcId] }
          : { Name: 'instance-connect-endpoint-id', Values: [which.endpointId] };
      const pages = paginateDescribeInstanceConnectEndpoints(paging, { Filters: [filter] }, { abortSignal });
      const found: Ec2InstanceConnectEndpoint[] = [];
      for await (const page of pages) {
        saw(factsOf(page));
        found.push(...(page.InstanceConnectEndpoints ?? []));
      }
      saw({ found: found.map(({ InstanceConnectEndpointId: id, State }) => `${id} (${State})`).join(', ') || 'none' });
      return found;
    });
  }

  /** What the instance has printed on its console so far; empty while AWS has nothing of it. */
  async consoleOutput(instanceId: string, signal: AbortSignal): Promise<string> {
    return this.#ask({ action: 'GetConsoleOutput', subject: instanceId }, signal, async (abortSignal, saw) => {
      const { GetConsoleOutputCommand } = await import('@aws-sdk/client-ec2');
      const client = await this.#ec2Client();
      const output = async (latest: boolean): Promise<string> => {
        const command = new GetConsoleOutputCommand({ InstanceId: instanceId, Latest: latest });
        const answer = await client.send(command, { abortSignal });
        saw(factsOf(answer));
        return Buffer.from(answer.Output ?? '', 'base64').toString();
      };
      try {
        return await output(true);
      } catch (error) {
        // Only newer kinds of instances (Nitro) have more than what was posted shortly after the boot.
        if ((error as Error).name !== 'UnsupportedOperation') throw error;
        return output(false);
      }
    });
  }

  /** Lets `publicKey` in as `user` for a minute. Says nothing of whether the instance has heard of it. */
  async pushKey(instanceId: string, user: string, publicKey: string, signal: AbortSignal): Promise<void> {
    await this.#ask({ action: 'SendSSHPublicKey', subject: instanceId }, signal, async (abortSignal, saw) => {
      const { SendSSHPublicKeyCommand } = await import('@aws-sdk/client-ec2-instance-connect');
      const client = await this.#instanceConnectClient();
      const input = { InstanceId: instanceId, InstanceOSUser: user, SSHPublicKey: publicKey };
      saw(factsOf(await client.send(new SendSSHPublicKeyCommand(input), { abortSignal })));
      saw({ user });
    });
  }

  /** As whom, where and when a request is presigned now. */
  async signingFacts(signal: AbortSignal): Promise<SigningFacts> {
    return this.#limited({ action: 'OpenTunnel' }, signal, async () => {
      const { config } = await this.#ec2Client();
      const credentials = await config.credentials();
      // The SDK learns it from the answers, and corrects its own requests only.
      return { region: this.name, credentials, date: new Date(this.clock.now() + config.systemClockOffset) };
    });
  }

  close(): void {
    this.#ec2?.destroy();
    this.#instanceConnect?.destroy();
  }

  async #ask<T>(
    question: Pick<AwsQuestion, 'subject'> & { readonly action: ApiAction },
    signal: AbortSignal,
    work: (signal: AbortSignal, saw: Saw) => Promise<T>,
  ): Promise<T> {
    const { metrics, trace } = this.#options;
    const { action } = question;
    if (trace !== undefined) await this.#introduce(signal);
    const startedMs = this.clock.monotonic();
    const tell = (outcome: AwsOutcome): void =>
      metrics?.awsAsked(this.name, action, outcome, (this.clock.monotonic() - startedMs) / 1000);
    try {
      const answer = await traced(trace, STEPS[action], (saw) =>
        this.#limited(question, signal, (abortSignal) => seen(saw, work(abortSignal, saw))),
      );
      tell('ok');
      return answer;
    } catch (error) {
      tell(outcomeOf(error));
      throw error;
    }
  }

  async #limited<T>(
    question: Omit<AwsQuestion, 'region'>,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const deadline = new Deadline(this.clock, this.#options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS, signal);
    try {
      // Between two attempts the SDK sleeps without an ear for the signal, hence the race.
      return await deadline.race(work(deadline.signal));
    } catch (error) {
      throw classifyAws(error, { ...question, region: this.name }, signal);
    } finally {
      deadline.clear();
    }
  }

  /** Tells once who asks: that goes wrong by itself, and before anything else. */
  #introduce(signal: AbortSignal): Promise<unknown> {
    const { trace, fips = false, endpoints } = this.#options;
    this.#introduced ??= traced(trace, 'credentials', (saw) => {
      saw({ region: this.name, ...(fips ? { fips } : {}), at: endpoints?.ec2 });
      return this.#limited({ action: 'DescribeInstances' }, signal, async () => {
        const { config } = await this.#ec2Client();
        const credentials = await config.credentials();
        const { expiration } = credentials as { readonly expiration?: Date };
        const kind = credentials.sessionToken === undefined ? 'long-lived' : 'of a session';
        saw({ from: credentialSource(credentials), kind, until: expiration?.toISOString() });
      });
    });
    return this.#introduced;
  }

  async #ec2Client(): Promise<EC2Client> {
    const { EC2Client: Client } = await import('@aws-sdk/client-ec2');
    this.#ec2 ??= new Client(this.#clientOptions(this.#options.endpoints?.ec2));
    return this.#ec2;
  }

  async #instanceConnectClient(): Promise<EC2InstanceConnectClient> {
    const { EC2InstanceConnectClient: Client } = await import('@aws-sdk/client-ec2-instance-connect');
    this.#instanceConnect ??= new Client(this.#clientOptions(this.#options.endpoints?.instanceConnect));
    return this.#instanceConnect;
  }

  #clientOptions(endpoint: string | undefined) {
    const { credentials, fips = false, ca } = this.#options;
    // The SDK takes no more than one of the two.
    const where = endpoint === undefined ? { ...(fips ? { useFipsEndpoint: true } : {}) } : { endpoint };
    return {
      region: this.name,
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

/** What an error of the SDK knows of its request is as telling as what an answer does. */
async function seen<T>(saw: Saw, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    saw(factsOf(error));
    throw error;
  }
}
