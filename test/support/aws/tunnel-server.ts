import { randomUUID } from 'node:crypto';
import { STATUS_CODES, type IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';

import { WebSocketServer, type WebSocket } from 'ws';

import type { FakeEndpoint } from './fake-endpoint.ts';
import type { FakeInstance } from './fake-instance.ts';
import { FakeTunnel } from './fake-tunnel.ts';
import { AwsApiError } from './faults.ts';

export interface TunnelServerOptions {
  endpoints(): readonly FakeEndpoint[];
  instances(): readonly FakeInstance[];
  /** Throws what is wrong with the signature, or what else is to go wrong before the upgrade. */
  admit(request: IncomingMessage): 'hang' | undefined;
  /** How long a second of `maxTunnelDuration` is. */
  readonly secondMs: number;
}

interface TunnelRequest {
  readonly endpoint: FakeEndpoint;
  readonly instance: FakeInstance;
  readonly seconds: number;
}

/** AWS's quota, which it raises for nobody. */
const TUNNELS_PER_ENDPOINT = 20;
/** No client of AWS sends a larger message. */
const LARGEST_MESSAGE = 65_000;

/** `openTunnel` of every endpoint: a WebSocket that ends at port 22 of an instance. */
export class TunnelServer {
  /** As if IAM allowed no longer tunnels, in seconds. */
  durationCap = 3600;
  /** From now on every message to the client comes in two frames. */
  isFragmenting = false;
  /** From now on the answer to an upgrade waits for the first bytes from the instance, to be sent in one packet with them. */
  isEager = false;
  /** What new tunnels are closed with as soon as they are open. */
  closeAtOnce: { readonly code: number; readonly reason: string } | undefined;
  readonly #options: TunnelServerOptions;
  readonly #webSockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: LARGEST_MESSAGE,
  });
  readonly #open = new Map<string, Set<FakeTunnel>>();
  readonly #peaks = new Map<string, number>();
  #opened = 0;
  #isFrozen = false;

  constructor(options: TunnelServerOptions) {
    this.#options = options;
    this.#webSockets.on('headers', (headers) => headers.push(`x-amzn-requestid: ${randomUUID()}`));
  }

  /** How many were ever opened. */
  get opened(): number {
    return this.#opened;
  }

  openAt({ id }: FakeEndpoint): number {
    return this.#open.get(id)?.size ?? 0;
  }

  /** The most that were open at one time. */
  peakAt({ id }: FakeEndpoint): number {
    return this.#peaks.get(id) ?? 0;
  }

  /** Ends all of them without a word. */
  cut(): void {
    for (const tunnel of this.#all()) tunnel.cut();
  }

  closeAll(code: number, reason: string): void {
    for (const tunnel of this.#all()) tunnel.close(code, reason);
  }

  sendText(): void {
    for (const tunnel of this.#all()) tunnel.sendText();
  }

  /** A black hole: nothing comes through tunnels that are open, and nobody answers those who want another. */
  freeze(): void {
    this.#isFrozen = true;
    for (const tunnel of this.#all()) tunnel.freeze();
  }

  thaw(): void {
    this.#isFrozen = false;
    for (const tunnel of this.#all()) tunnel.thaw();
  }

  /** For the upgrade event of a server. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => undefined);
    try {
      const isHanging = this.#options.admit(request) === 'hang';
      const wanted = this.#parse(request);
      if (isHanging || this.#isFrozen) return;
      if (this.isEager) socket.cork();
      this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
        const tunnel = this.#accept(webSocket, wanted);
        if (this.isEager) tunnel?.onFirstBytes(() => socket.uncork());
      });
    } catch (error) {
      if (!(error instanceof AwsApiError)) throw error;
      refuse(socket, error);
    }
  }

  #parse(request: IncomingMessage): TunnelRequest {
    const url = new URL(request.url ?? '', 'wss://localhost');
    if (url.pathname !== '/openTunnel') throw new AwsApiError('NotFound', url.pathname, 404);
    const params = url.searchParams;
    const port = params.get('remotePort');
    if (port !== '22' && port !== '3389') {
      throw invalid('The specified RemotePort is not valid. Specify either 22 or 3389 as the RemotePort.');
    }
    const endpoint = this.#options.endpoints().find(({ id }) => id === params.get('instanceConnectEndpointId'));
    if (endpoint === undefined) throw new AwsApiError('ResourceNotFound', 'No such Instance Connect Endpoint', 404);
    const address = params.get('privateIpAddress') ?? '';
    const instance = this.#options
      .instances()
      .findLast(({ privateIp, options }) => [privateIp, options.ipv6].includes(address));
    if (instance === undefined) throw invalid('The specified PrivateIpAddress is not valid.');
    const seconds = Number(params.get('maxTunnelDuration') ?? 3600);
    if (!(seconds >= 1 && seconds <= 3600)) throw invalid('The specified MaxTunnelDuration is not valid.');
    if (seconds > this.durationCap) {
      const message = 'not authorized to perform: ec2-instance-connect:OpenTunnel';
      throw new AwsApiError('AccessDenied', message, 403);
    }
    if (this.openAt(endpoint) >= TUNNELS_PER_ENDPOINT) {
      throw new AwsApiError('ConnectionLimitExceeded', 'Too many connections to the Instance Connect Endpoint', 429);
    }
    return { endpoint, instance, seconds };
  }

  #accept(webSocket: WebSocket, { endpoint, instance, seconds }: TunnelRequest): FakeTunnel | undefined {
    // The client said something that is not the protocol; `ws` has closed with the code for it.
    webSocket.on('error', () => undefined);
    this.#opened += 1;
    if (this.closeAtOnce !== undefined) {
      webSocket.close(this.closeAtOnce.code, this.closeAtOnce.reason);
      return undefined;
    }
    // AWS finds out only now, when it tries to get there.
    if (!instance.isRunning || instance.vpcId !== endpoint.vpcId) {
      webSocket.close(1011, 'Unable to connect to target');
      return undefined;
    }
    const lifetimeMs = seconds * this.#options.secondMs;
    const tunnel = new FakeTunnel(webSocket, instance.line.address, lifetimeMs, this.isFragmenting);
    const open = this.#open.get(endpoint.id) ?? new Set();
    this.#open.set(endpoint.id, open.add(tunnel));
    this.#peaks.set(endpoint.id, Math.max(open.size, this.peakAt(endpoint)));
    webSocket.once('close', () => open.delete(tunnel));
    return tunnel;
  }

  #all(): readonly FakeTunnel[] {
    return [...this.#open.values()].flatMap((tunnels) => [...tunnels]);
  }
}

function invalid(message: string): AwsApiError {
  return new AwsApiError('InvalidParameter', message);
}

/** A refusal is an HTTP answer in place of the upgrade. */
function refuse(socket: Duplex, { code, message, status }: AwsApiError): void {
  const body = JSON.stringify({ ErrorCode: code, Message: message });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    `x-amzn-requestid: ${randomUUID()}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
