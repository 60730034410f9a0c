import {
  request as httpRequest,
  type Agent,
  type ClientRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
} from 'node:http';
import { request as httpsRequest } from 'node:https';

import type { WebSocket } from 'ws';

import { causeOf, codeOf } from '../../domain/error-code.ts';
import { aborted, ReconcileError, terminal, transient, unknownOutcome } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { KubeAccess } from './kube-access.ts';
import type { KubeConnection } from './kube-connection.ts';
import { KEEP_ALIVE_MS, KubePool } from './kube-pool.ts';
import { KubeRefusal, type KubeStatus } from './kube-refusal.ts';
import { openSocket, type SocketRequest } from './open-socket.ts';

export type KubeMethod = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Query = Readonly<Record<string, string | number | undefined>>;

export interface KubeRequest {
  readonly method: KubeMethod;
  /** From the root: `/api/v1/namespaces/team-a/pods`. Names in it are encoded by the caller. */
  readonly path: string;
  readonly query?: Query;
  /** Sent as JSON, as `contentType` where that is another: every kind of patch has one of its own. */
  readonly body?: unknown;
  readonly contentType?: string;
  /** Left out: the whole object. */
  readonly accept?: string;
  readonly timeoutMs?: number;
}

export interface KubeClientOptions {
  readonly access: KubeAccess;
  readonly clock: Clock;
  readonly metrics?: Pick<Metrics, 'kubeAsked'> | undefined;
  /** For calls, and so those at once. Default 16: beyond it the API server would queue them, or refuse. */
  readonly connections?: number;
}

const TIMEOUT_MS = 30_000;
/** HTTP goes no further on this connection. */
const SWITCHED = 101;
/** 40 objects as large as etcd takes them. It is held three times over: as bytes, as text and as objects. */
const LARGEST_ANSWER = 64 * 1024 * 1024;
const LARGEST_REFUSAL = 64 * 1024;

const UNTRUSTED = /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED|UNABLE_TO_|CERT_|ERR_TLS_CERT_)/;

/** Cause of the error that a call ends with: what was asked for is too much at once. */
export class AnswerTooLarge extends Error {
  override readonly name = 'AnswerTooLarge';

  constructor(mostBytes: number) {
    super(`the answer is larger than ${mostBytes / 1024 / 1024} MiB`);
  }
}

/** How far a request came; what to make of its end depends on it. */
interface Trip {
  /** Where it went; `undefined` while there is no credential. */
  host: string | undefined;
  /** A connection took it: it may have been carried out, whatever was heard of it. */
  mayHaveArrived: boolean;
  /** How the answer to it began. */
  status: number | undefined;
}

/**
 * Asks the API server. Every request has a deadline and really ends with it, calls share one bounded pool of connections, and
 * a watch has one of its own. Throws `aborted`, {@link KubeRefusal} for what the server refused, `AuthenticationFailed` where there is
 * no credential or its certificate is not trusted, else `Unreachable`; of what was to change something and may have, `OutcomeUnknown`.
 */
export class KubeClient {
  readonly clock: Clock;
  readonly #access: KubeAccess;
  readonly #metrics: KubeClientOptions['metrics'];
  readonly #pool: KubePool;

  constructor({ access, clock, metrics, connections = 16 }: KubeClientOptions) {
    this.#pool = new KubePool(connections);
    this.#access = access;
    this.clock = clock;
    this.#metrics = metrics;
  }

  /** What the server answers. */
  async call<T>(request: KubeRequest, signal: AbortSignal): Promise<T> {
    return await this.#within(request, signal, async (trip, until) => {
      const response = await this.#ask(request, trip, until, (connection) =>
        send(connection, this.#pool.for(connection), request, trip, until),
      );
      return JSON.parse((await bytesOf(response, LARGEST_ANSWER)).toString('utf8')) as T;
    });
  }

  /** The body of an answer without end, which breaks off when `signal` aborts; only its beginning has a deadline. */
  async watch(path: string, query: Query, signal: AbortSignal): Promise<IncomingMessage> {
    const request: KubeRequest = { method: 'GET', path, query };
    const response = await this.#within(request, signal, (trip, until) =>
      this.#ask(request, trip, until, (connection) => send(connection, false, request, trip, until)),
    );
    const unlink = onAbort(signal, () => response.destroy(signal.reason as Error));
    response.once('close', unlink);
    return response;
  }

  /** An open WebSocket; only its beginning has a deadline. Whoever gets it closes it. */
  async connect(wanted: SocketRequest, signal: AbortSignal): Promise<WebSocket> {
    const request: KubeRequest = { method: 'GET', path: wanted.path };
    return await this.#within(request, signal, async (trip, until) => {
      const socket = await this.#ask(request, trip, until, ({ server, ...how }) =>
        openSocket({ server, ...how }, wanted, (response) => refusalIn(response, whatOf(request, server)), until),
      );
      trip.status = SWITCHED;
      return socket;
    });
  }

  close(): void {
    this.#pool.close();
  }

  /** `work` with a deadline, counted, and what it throws as what it means. */
  async #within<T>(
    request: KubeRequest,
    signal: AbortSignal,
    work: (trip: Trip, until: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const deadline = new Deadline(this.clock, request.timeoutMs ?? TIMEOUT_MS, signal);
    const startedAt = this.clock.monotonic();
    const trip: Trip = { host: undefined, mayHaveArrived: false, status: undefined };
    let code = '<error>';
    try {
      // A request that waits for a connection is not told that it was aborted.
      const answer = await deadline.race(work(trip, deadline.signal));
      code = String(trip.status);
      return answer;
    } catch (thrown) {
      if (thrown instanceof KubeRefusal) code = String(thrown.status);
      const why = deadline.cause === 'expired' ? `no answer within ${deadline.ms / 1000} s` : causeOf(thrown);
      throw meaningOf(request, trip, why, signal, thrown);
    } finally {
      deadline.clear();
      const seconds = (this.clock.monotonic() - startedAt) / 1000;
      if (trip.host !== undefined) this.#metrics?.kubeAsked(trip.host, request.method, code, seconds);
    }
  }

  /** Resolves when the server agrees. A credential that is not taken, and a certificate that is not believed, are read again once. */
  async #ask<T>(
    request: KubeRequest,
    trip: Trip,
    until: AbortSignal,
    go: (connection: KubeConnection) => Promise<T>,
  ): Promise<T> {
    const connection = await this.#access.current(until);
    trip.host = connection.server.host;
    try {
      return await go(connection);
    } catch (error) {
      if (error instanceof StaleConnection && request.method === 'GET') return await go(connection);
      if (!isNotBelieved(error) || !this.#access.renew(connection)) throw error;
      return await go(await this.#access.current(until));
    }
  }
}

/** The server had closed the connection, which was idle, just before this request was sent on it. */
class StaleConnection extends Error {
  readonly code = 'ECONNRESET';
}

function isNotBelieved(error: unknown): boolean {
  return error instanceof KubeRefusal ? error.status === 401 : UNTRUSTED.test(codeOf(error) ?? '');
}

async function send(
  connection: KubeConnection,
  agent: Agent | false,
  request: KubeRequest,
  trip: Trip,
  until: AbortSignal,
): Promise<IncomingMessage> {
  const { server, tls, headers } = connection;
  const isTls = server.protocol === 'https:';
  const body = request.body === undefined ? undefined : Buffer.from(JSON.stringify(request.body));
  const sent = (isTls ? httpsRequest : httpRequest)(urlOf(server, request), {
    method: request.method,
    headers: {
      ...headers,
      Accept: request.accept ?? 'application/json',
      'User-Agent': 'plugset',
      ...(body && { 'Content-Type': request.contentType ?? 'application/json', 'Content-Length': body.length }),
    },
    agent,
    signal: until,
    ...(agent === false ? tls : {}),
  });
  followTrip(sent, isTls, trip);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    sent.on('response', resolve);
    sent.on('error', (error) => {
      reject(sent.reusedSocket && codeOf(error) === 'ECONNRESET' ? new StaleConnection(error.message) : error);
    });
    sent.end(body);
  });
  const status = response.statusCode ?? 0;
  trip.status = status;
  if (status >= 200 && status < 300) return response;
  throw await refusalIn(response, whatOf(request, server));
}

function followTrip(sent: ClientRequest, isTls: boolean, trip: Trip): void {
  sent.once('socket', (socket) => {
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    if (sent.reusedSocket || !socket.connecting) trip.mayHaveArrived = true;
    else socket.once(isTls ? 'secureConnect' : 'connect', () => (trip.mayHaveArrived = true));
  });
}

/** A server may be below a path of its own, behind a gateway. */
function urlOf(server: URL, { path, query }: KubeRequest): URL {
  const url = new URL(server.pathname.replace(/\/$/, '') + path, server);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url;
}

async function refusalIn(response: IncomingMessage, what: string): Promise<KubeRefusal> {
  const text = (await beginningOf(response, LARGEST_REFUSAL)).toString('utf8');
  return new KubeRefusal(what, response.statusCode ?? 0, statusIn(text), retryAfterIn(response.headers));
}

/** In seconds. The API server says so itself; a gateway in between may name a moment, by its own clock. */
function retryAfterIn({ 'retry-after': said, date }: IncomingHttpHeaders): string | undefined {
  const ms = Date.parse(said ?? '') - Date.parse(date ?? '');
  return said === undefined || /^\d+$/.test(said) || Number.isNaN(ms) ? said : String(Math.max(0, ms / 1000));
}

/** Gateways in between answer with pages of their own. */
function statusIn(text: string): KubeStatus {
  try {
    const said: unknown = JSON.parse(text);
    return typeof said === 'object' && said !== null ? said : {};
  } catch {
    return {};
  }
}

/** What is longer is no Status, whose first words would be worth reading. */
async function beginningOf(response: IncomingMessage, bytes: number): Promise<Buffer> {
  let read: Buffer = Buffer.alloc(0);
  for await (const chunk of response as AsyncIterable<Buffer>) {
    read = Buffer.concat([read, chunk]);
    if (read.length > bytes) break;
  }
  return read.subarray(0, bytes);
}

async function bytesOf(response: IncomingMessage, largest: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > largest) throw new AnswerTooLarge(largest);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function whatOf({ method, path }: KubeRequest, server?: URL): string {
  return `${method} ${path}${server === undefined ? '' : ` at ${server.host}`}`;
}

function meaningOf(
  request: KubeRequest,
  trip: Trip,
  why: string,
  signal: AbortSignal,
  thrown: unknown,
): ReconcileError {
  if (thrown instanceof ReconcileError) return thrown;
  const what = `the Kubernetes API: ${whatOf(request)}`;
  if (thrown instanceof AnswerTooLarge) return transient('Unreachable', `${what}: ${thrown.message}`, thrown);
  if (signal.aborted) return aborted(`${what} was called off`, thrown);
  const code = codeOf(thrown);
  if (code !== undefined && UNTRUSTED.test(code)) {
    return terminal('AuthenticationFailed', `${what}: its certificate is not trusted (${code})`, thrown);
  }
  if (request.method !== 'GET' && trip.mayHaveArrived) return unknownOutcome(`${what}: ${why}`, thrown);
  return transient('Unreachable', `${what}: ${why}`, thrown);
}
