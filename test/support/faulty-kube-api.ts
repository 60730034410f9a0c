import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';

import type { KubeObject } from '../../src/adapters/kube/kube-object.ts';

/** What a test needs to see of a request. */
export interface SeenRequest {
  readonly kind: 'list' | 'watch' | 'other';
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingMessage['headers'];
}

/** A watch that somebody follows. */
export interface OpenWatch {
  readonly request: SeenRequest;
  readonly response: ServerResponse;
  /** Sends one event; with its newline. */
  send(type: string, object: unknown): void;
}

interface Logged {
  readonly version: number;
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly object: KubeObject;
}

export interface FaultyKubeApiOptions {
  readonly tls?: { readonly key: string; readonly cert: string };
}

/**
 * Lists and watches one collection as a kube-apiserver does, over real HTTP, and misbehaves when told to. For faults, and the
 * order of things; how a real one behaves is tested with a real one.
 */
export class FaultyKubeApi {
  static readonly path = '/apis/plugset.dev/v1alpha1/workspaces';

  readonly seen: SeenRequest[] = [];
  readonly watches = new Set<OpenWatch>();
  /** Connections that were ever accepted; with TLS: those that finished their handshake. */
  connections = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #log: Logged[] = [];
  readonly #faults: { readonly kind: SeenRequest['kind']; readonly answer: RequestListener }[] = [];
  #compacted = 0;
  #version = 100;
  #uids = 0;

  private constructor({ tls }: FaultyKubeApiOptions) {
    const listener: RequestListener = (request, response) => this.#answer(request, response);
    this.#server = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    this.#server.keepAliveTimeout = 0;
    this.#server.on(tls === undefined ? 'connection' : 'secureConnection', () => (this.connections += 1));
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  static async open(options: FaultyKubeApiOptions = {}): Promise<FaultyKubeApi> {
    const api = new FaultyKubeApi(options);
    api.#server.listen(0, '127.0.0.1');
    await once(api.#server, 'listening');
    return api;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get openConnections(): number {
    return this.#sockets.size;
  }

  /** Cuts every connection that there is. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** From now on with another certificate. */
  setTls(tls: { readonly key: string; readonly cert: string }): void {
    (this.#server as unknown as { setSecureContext(context: object): void }).setSecureContext(tls);
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  seenOf(kind: SeenRequest['kind']): readonly SeenRequest[] {
    return this.seen.filter((request) => request.kind === kind);
  }

  /** The next request of this kind gets this answer, and no other. */
  failNext(kind: SeenRequest['kind'], answer: RequestListener): void {
    this.#faults.push({ kind, answer });
  }

  /** Makes or changes an object, and tells whoever watches. */
  put(name: string, spec: unknown = {}): KubeObject {
    const before = this.#at(this.#version).find(({ metadata }) => metadata.name === name);
    const object = {
      metadata: {
        name,
        namespace: 'team-a',
        uid: before?.metadata.uid ?? `uid-${++this.#uids}`,
        resourceVersion: String(++this.#version),
        generation: (before?.metadata.generation ?? 0) + 1,
      },
      spec,
    };
    this.#tell({ version: this.#version, type: before === undefined ? 'ADDED' : 'MODIFIED', object });
    return object;
  }

  /** `silently`: as a watch that loses an event. */
  delete(name: string, silently: 'silently' | 'audibly' = 'audibly'): void {
    const before = this.#at(this.#version).find(({ metadata }) => metadata.name === name);
    if (before === undefined) throw new Error(`there is no ${name}`);
    const metadata = { ...before.metadata, resourceVersion: String(++this.#version) };
    const event: Logged = { version: this.#version, type: 'DELETED', object: { ...before, metadata } };
    if (silently === 'silently') this.#log.push(event);
    else this.#tell(event);
  }

  bookmark(): void {
    for (const watch of this.watches) {
      watch.send('BOOKMARK', { kind: 'Workspace', metadata: { resourceVersion: String(++this.#version) } });
    }
  }

  /** Forgets what was before now: whoever goes on from there gets 410. */
  compact(): void {
    this.#compacted = ++this.#version;
  }

  get version(): string {
    return String(this.#version);
  }

  #tell(event: Logged): void {
    this.#log.push(event);
    for (const watch of this.watches) watch.send(event.type, event.object);
  }

  #at(version: number): readonly KubeObject[] {
    const objects = new Map<string, KubeObject>();
    for (const event of this.#log) {
      if (event.version > version) break;
      if (event.type === 'DELETED') objects.delete(event.object.metadata.name);
      else objects.set(event.object.metadata.name, event.object);
    }
    return [...objects.values()];
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '', 'http://api');
    const query = Object.fromEntries(url.searchParams);
    const isCollection = url.pathname === FaultyKubeApi.path && request.method === 'GET';
    const kind = isCollection ? (query['watch'] === undefined ? 'list' : 'watch') : 'other';
    const seen = { kind, method: request.method ?? '', path: url.pathname, query, headers: request.headers } as const;
    this.seen.push(seen);
    const fault = this.#faults.findIndex((one) => one.kind === kind);
    if (fault !== -1) return this.#faults.splice(fault, 1)[0]?.answer(request, response);
    if (kind === 'list') this.#list(seen, response);
    else if (kind === 'watch') this.#watch(seen, response);
    else answerJson(response, 200, {});
  }

  #list({ query }: SeenRequest, response: ServerResponse): void {
    const token = query['continue'];
    const [at, from] = token === undefined ? [Number(query['resourceVersion'] ?? this.#version), 0] : partsOf(token);
    if (at < this.#compacted) return refuse(response, 410, 'Expired');
    if (at > this.#version)
      return refuse(response, 504, 'Timeout', { causes: [{ reason: 'ResourceVersionTooLarge' }] });
    const limit = Number(query['limit'] ?? Infinity);
    const objects = this.#at(at);
    const rest = from + limit < objects.length ? `${at} ${from + limit}` : '';
    const metadata = { resourceVersion: String(at), ...(rest === '' ? {} : { continue: rest }) };
    answerJson(response, 200, { kind: 'WorkspaceList', metadata, items: objects.slice(from, from + limit) });
  }

  #watch(request: SeenRequest, response: ServerResponse): void {
    const from = Number(request.query['resourceVersion']);
    if (from < this.#compacted) return refuse(response, 410, 'Expired');
    response.writeHead(200, { 'content-type': 'application/json' }).flushHeaders();
    const watch: OpenWatch = {
      request,
      response,
      send: (type, object) => void response.write(`${JSON.stringify({ type, object })}\n`),
    };
    this.watches.add(watch);
    response.once('close', () => this.watches.delete(watch));
    for (const event of this.#log) if (event.version > from) watch.send(event.type, event.object);
  }
}

function partsOf(token: string): readonly [number, number] {
  const [at, from] = token.split(' ').map(Number);
  return [at ?? 0, from ?? 0];
}

export function answerJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

/** As the API server says no. */
export function refuse(response: ServerResponse, code: number, reason: string, details: object = {}): void {
  answerJson(response, code, { kind: 'Status', status: 'Failure', code, reason, message: `${reason} it is`, details });
}
