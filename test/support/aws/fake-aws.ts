import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ApiServer, type ApiCall } from './api-server.ts';
import { selfSigned } from './certificate.ts';
import { describeInstanceConnectEndpoints, describeInstances, getConsoleOutput } from './ec2-api.ts';
import { fakeEndpoint, type FakeEndpoint } from './fake-endpoint.ts';
import { FakeInstance, type LaunchOptions } from './fake-instance.ts';
import { AwsApiError, AwsFaults, type AwsAction } from './faults.ts';
import { sendSshPublicKey } from './instance-connect-api.ts';
import { SignatureError, verifyHeaders, verifyPresigned, type TestCredentials, type Verifier } from './sigv4.ts';
import { TunnelServer } from './tunnel-server.ts';
import type { XmlElements } from './xml.ts';

export interface FakeAwsOptions {
  /** Default: 60 s, as AWS has it. */
  readonly keyWindowMs?: number;
  /** How long a second of `maxTunnelDuration` is; default 1000. */
  readonly tunnelSecondMs?: number;
  /** Default 1000. */
  readonly pageSize?: number;
}

/**
 * A stand-in for the part of AWS that plugset talks to: one region with its APIs and Instance Connect endpoints, on loopback
 * and over TLS, that checks every signature with code of its own, and instances with OpenSSH's own server on them.
 * `vpc-1` with `subnet-1` has an endpoint from the start. Machines are made by root: see `withBackend('machine', …)`.
 */
export class FakeAws {
  readonly region = 'eu-test-1';
  /** Where both APIs are. */
  readonly url: string;
  /** PEM of who certifies all of it, and a file that holds it. */
  readonly ca: string;
  readonly caFile: string;
  readonly faults = new AwsFaults();
  readonly tunnels: TunnelServer;
  readonly instances: FakeInstance[] = [];
  readonly endpoints: FakeEndpoint[] = [];
  /** Every request whose signature was good, in order. */
  readonly calls: AwsAction[] = [];
  /** Of every address of a tunnel that somebody came with: each was good for a minute. */
  readonly signatures: string[] = [];
  /** How far the clock of AWS is ahead of ours. */
  clockSkewMs = 0;
  readonly #options: FakeAwsOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #dir: string;
  readonly #credentials = new Map<string, TestCredentials>();
  #current: TestCredentials;
  #launched = 0;

  private constructor(options: FakeAwsOptions, server: Server, cert: string, dir: string) {
    this.#options = options;
    this.#server = server;
    this.#dir = dir;
    this.ca = cert;
    this.caFile = join(dir, 'ca.pem');
    this.url = `https://localhost:${(server.address() as AddressInfo).port}`;
    this.#current = this.issueCredentials();
    this.tunnels = new TunnelServer({
      endpoints: () => this.endpoints,
      instances: () => this.instances,
      admit: (request) => this.#admit(request),
      secondMs: options.tunnelSecondMs ?? 1000,
    });
    const api = new ApiServer({
      now: () => this.#now(),
      verify: (request, body) => verifyHeaders(received(request, body), this.#verifier()),
      answer: (call) => this.#answer(call),
    });
    server.on('request', (request, response) => {
      api.serve(request, response).catch((error: unknown) => response.destroy(error as Error));
    });
    server.on('upgrade', (request, socket, head) => this.tunnels.upgrade(request, socket, head));
    server.on('secureConnection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    this.createEndpoint();
  }

  static async start(options: FakeAwsOptions = {}): Promise<FakeAws> {
    const { key, cert } = await selfSigned();
    const dir = await mkdtemp(join(tmpdir(), 'plugset-aws-'));
    await writeFile(join(dir, 'ca.pem'), cert);
    const server = createServer({ key, cert }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new FakeAws(options, server, cert, dir);
  }

  /** What the SDK takes from the environment of a process. */
  get environment(): Readonly<Record<string, string>> {
    return {
      AWS_REGION: this.region,
      AWS_ACCESS_KEY_ID: this.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: this.credentials.secretAccessKey,
      AWS_SESSION_TOKEN: this.credentials.sessionToken ?? '',
      AWS_ENDPOINT_URL_EC2: this.url,
      AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT: this.url,
      AWS_EC2_METADATA_DISABLED: 'true',
      NODE_EXTRA_CA_CERTS: this.caFile,
    };
  }

  /** The latest that were issued. */
  get credentials(): TestCredentials {
    return this.#current;
  }

  /** All that were issued so far. */
  get issued(): readonly TestCredentials[] {
    return [...this.#credentials.values()];
  }

  /** Like a role that is assumed once more: new ones, and the old ones are good still. */
  issueCredentials(): TestCredentials {
    this.#current = {
      accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
      secretAccessKey: randomBytes(30).toString('base64'),
      // With everything that is easily encoded wrongly.
      sessionToken: `${randomBytes(60).toString('base64')}+/==`,
    };
    this.#credentials.set(this.#current.accessKeyId, this.#current);
    return this.#current;
  }

  /** The hour of all that were issued so far is over. */
  expireCredentials(): void {
    for (const credentials of this.#credentials.values()) credentials.isExpired = true;
  }

  createEndpoint(options: Partial<FakeEndpoint> = {}): FakeEndpoint {
    const endpoint = fakeEndpoint(new URL(this.url).host, options);
    this.endpoints.push(endpoint);
    return endpoint;
  }

  async launch(options: LaunchOptions = {}): Promise<FakeInstance> {
    this.#launched += 1;
    const privateIp = options.privateIp ?? `10.0.${this.#launched >> 8}.${this.#launched % 256}`;
    const instance = await FakeInstance.launch(options, privateIp, this.#now());
    this.instances.push(instance);
    return instance;
  }

  /** Terminates it and launches one like it, with the same tags and address, another id, other host keys, an empty disk. */
  async replace(instance: FakeInstance): Promise<FakeInstance> {
    await instance.terminate();
    return this.launch({ ...instance.options, tags: instance.tags, privateIp: instance.privateIp });
  }

  /** An hour after it was terminated, AWS knows of it no more. */
  forget(instance: FakeInstance): void {
    this.instances.splice(this.instances.indexOf(instance), 1);
  }

  count(action: AwsAction): number {
    return this.calls.filter((call) => call === action).length;
  }

  async close(): Promise<void> {
    this.tunnels.cut();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await Promise.all(this.instances.map((instance) => instance.terminate()));
    await rm(this.#dir, { recursive: true, force: true });
  }

  #now(): number {
    return Date.now() + this.clockSkewMs;
  }

  #verifier(): Verifier {
    return { region: this.region, now: () => this.#now(), credentialsOf: (id) => this.#credentials.get(id) };
  }

  #admit(request: IncomingMessage): 'hang' | undefined {
    try {
      const service = verifyPresigned(received(request), this.#verifier());
      if (service !== 'ec2-instance-connect') throw new SignatureError('scope', `that was signed for ${service}`);
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error;
      const code = error.fault === 'expired' ? 'ExpiredToken' : 'InvalidSignature';
      throw new AwsApiError(code, error.message, 403);
    }
    this.calls.push('OpenTunnel');
    const { searchParams } = new URL(request.url ?? '', this.url);
    this.signatures.push(searchParams.get('X-Amz-Signature') ?? '');
    return this.faults.meet('OpenTunnel');
  }

  async #answer(call: ApiCall): Promise<XmlElements | 'hang'> {
    this.calls.push(call.action);
    const values = call.protocol === 'json' ? [] : call.form.values();
    if (this.faults.meet(call.action, values) === 'hang') return 'hang';
    const { instances, endpoints } = this;
    const contents = { instances, endpoints, pageSize: this.#options.pageSize ?? 1000 };
    if (call.protocol === 'json') {
      if (call.action !== 'SendSSHPublicKey') throw new AwsApiError('UnknownOperationException', call.action);
      return sendSshPublicKey(call.input, instances, this.#options.keyWindowMs ?? 60_000);
    }
    switch (call.action) {
      case 'DescribeInstances':
        return describeInstances(call.form, contents);
      case 'DescribeInstanceConnectEndpoints':
        return describeInstanceConnectEndpoints(call.form, contents);
      case 'GetConsoleOutput':
        return getConsoleOutput(call.form, contents);
      default:
        throw new AwsApiError('InvalidAction', `The action ${call.action} is not valid for this web service.`);
    }
  }
}

function received({ method = '', url = '', headers }: IncomingMessage, body?: Buffer) {
  return { method, url, headers, ...(body === undefined ? {} : { body }) };
}
