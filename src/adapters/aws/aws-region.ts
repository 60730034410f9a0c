import type { DescribeInstancesCommandInput, Ec2InstanceConnectEndpoint } from '@aws-sdk/client-ec2';

import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { AwsAction, AwsOutcome, Metrics } from '../../ports/metrics.ts';
import { traced, type PathTrace, type Saw } from '../../ports/path-trace.ts';
import { AwsClients, type AwsClientsOptions } from './aws-clients.ts';
import { classifyAws, factsOf, outcomeOf, type AwsQuestion } from './aws-errors.ts';
import { credentialSource } from './credential-source.ts';
import { instanceFrom, type Instance } from './instance.ts';
import type { SigningFacts } from './presign-tunnel.ts';

export interface AwsRegionOptions extends AwsClientsOptions {
  readonly clock: Clock;
  /** For one question, its pages and repetitions included. Default 20 s. */
  readonly requestTimeoutMs?: number | undefined;
  readonly metrics?: Pick<Metrics, 'awsAsked'> | undefined;
  readonly trace?: PathTrace | undefined;
}

/** One condition of a question; its values are alternatives. */
export type Filter = NonNullable<DescribeInstancesCommandInput['Filters']>[number];

/** What the APIs are asked. Whoever opens a tunnel asks an endpoint. */
type ApiAction = Exclude<AwsAction, 'OpenTunnel'>;

/** What a step is called, for people, that asks this. */
const STEPS: Readonly<Record<ApiAction, string>> = {
  DescribeInstances: 'instance',
  DescribeInstanceConnectEndpoints: 'endpoints',
  GetConsoleOutput: 'console',
  SendSSHPublicKey: 'key push',
};
const REQUEST_TIMEOUT_MS = 20_000;
const INSTANCES_PER_PAGE = 1000;
const ENDPOINTS_PER_PAGE = 50;

/**
 * The questions that plugset has to the APIs of one region. Each is asked within a deadline, counted, and told as a step to
 * whoever listens; what goes wrong is thrown as {@link classifyAws} names it.
 */
export class AwsRegion {
  readonly name: string;
  readonly clock: Clock;
  readonly #options: AwsRegionOptions;
  readonly #clients: AwsClients;
  #areCredentialsTold = false;

  constructor(options: AwsRegionOptions) {
    this.name = options.region;
    this.clock = options.clock;
    this.#options = options;
    this.#clients = new AwsClients(options);
  }

  /** Every instance that all of the filters fit. `subject`: what that asks for, for messages. */
  async instances(filters: Filter[], signal: AbortSignal, subject?: string): Promise<readonly Instance[]> {
    return this.#ask({ action: 'DescribeInstances', subject }, signal, async (abortSignal, saw) => {
      const { paginateDescribeInstances } = await import('@aws-sdk/client-ec2');
      const paging = { client: await this.#clients.ec2(), pageSize: INSTANCES_PER_PAGE };
      const found: Instance[] = [];
      for await (const page of paginateDescribeInstances(paging, { Filters: filters }, { abortSignal })) {
        saw(factsOf(page));
        for (const { Instances = [] } of page.Reservations ?? []) found.push(...Instances.map(instanceFrom));
      }
      saw({ found: listed(found.map(({ id, state }) => `${id} (${state})`)) });
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
      const paging = { client: await this.#clients.ec2(), pageSize: ENDPOINTS_PER_PAGE };
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
      saw({ found: listed(found.map(({ InstanceConnectEndpointId: id, State }) => `${id} (${State})`)) });
      return found;
    });
  }

  /** What the instance has printed on its console so far; empty while AWS has nothing of it. */
  async consoleOutput(instanceId: string, signal: AbortSignal): Promise<string> {
    return this.#ask({ action: 'GetConsoleOutput', subject: instanceId }, signal, async (abortSignal, saw) => {
      const { GetConsoleOutputCommand } = await import('@aws-sdk/client-ec2');
      const client = await this.#clients.ec2();
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
      const client = await this.#clients.instanceConnect();
      const input = { InstanceId: instanceId, InstanceOSUser: user, SSHPublicKey: publicKey };
      saw(factsOf(await client.send(new SendSSHPublicKeyCommand(input), { abortSignal })));
      saw({ user });
    });
  }

  /** As whom, where and when a request is presigned now. */
  async signingFacts(signal: AbortSignal): Promise<SigningFacts> {
    return this.#limited({ action: 'OpenTunnel' }, signal, async () => {
      const { config } = await this.#clients.ec2();
      const credentials = await config.credentials();
      // The SDK learns it from the answers, and corrects its own requests only.
      return { region: this.name, credentials, date: new Date(this.clock.now() + config.systemClockOffset) };
    });
  }

  close(): void {
    this.#clients.close();
  }

  /** Asks, counts how that ended and tells it. */
  async #ask<T>(
    question: Pick<AwsQuestion, 'subject'> & { readonly action: ApiAction },
    signal: AbortSignal,
    work: (signal: AbortSignal, saw: Saw) => Promise<T>,
  ): Promise<T> {
    const { metrics, trace } = this.#options;
    const { action } = question;
    if (trace !== undefined) await this.#tellCredentials(signal);
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

  /** The work, or what went wrong with it, in time and in the words of {@link classifyAws}. */
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

  /** Where the steps of the way are told, credentials are the first: what is wrong with them should not look like a fault of the next. */
  async #tellCredentials(signal: AbortSignal): Promise<void> {
    if (this.#areCredentialsTold) return;
    const { trace, fips, endpoints } = this.#options;
    await traced(trace, 'credentials', (saw) => {
      saw({ region: this.name, fips, at: endpoints?.ec2 });
      return this.#limited({ action: 'DescribeInstances' }, signal, async () => {
        const { config } = await this.#clients.ec2();
        const credentials = await config.credentials();
        const { expiration } = credentials as { readonly expiration?: Date };
        const kind = credentials.sessionToken === undefined ? 'long-lived' : 'of a session';
        saw({ from: credentialSource(credentials), kind, until: expiration?.toISOString() });
      });
    });
    this.#areCredentialsTold = true;
  }
}

function listed(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.join(', ');
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
