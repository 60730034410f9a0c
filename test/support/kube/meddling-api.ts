import { once } from 'node:events';
import {
  createServer,
  ServerResponse,
  STATUS_CODES,
  type ClientRequest,
  type IncomingMessage,
  type Server,
} from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Duplex } from 'node:stream';

import type { Cluster } from './cluster.ts';

/** Handed one event of an object, as a line of JSON, decides what the client gets instead; bookmarks get through. */
export type Meddle = (event: string, client: WatchingClient) => void;

export interface WatchingClient {
  /** Sends one event. */
  send(event: string): void;
  /** Ends the answer, as the API server does when the time of a watch is over; the events that come then are lost here. */
  end(): void;
  /** Breaks the connection off, with half an event on the way. */
  breakOff(): void;
}

/** An answer in place of that of the API server. */
export type Refusal = (response: ServerResponse) => void;

/**
 * What becomes of a request: an answer of the proxy's own; `lost`: its connection is cut before anybody was asked; `unheard`: it
 * is cut after the API server has done what was asked, or a command has begun; `undefined`: it gets through.
 */
export type Fate = Refusal | 'lost' | 'unheard' | undefined;

const BOOKMARK = '{"type":"BOOKMARK"';

/**
 * Stands between a client and a real API server, over HTTP of its own, and meddles with what that answers. For faults that
 * need to know an event, or a request, from another one; `FaultProxy` is for those of the network. Like `kubectl proxy` it asks
 * as an administrator for whoever says not who he is: over HTTP a kubeconfig gives nothing away.
 */
export class MeddlingApi {
  /** Every watch that got through. */
  watches = 0;
  readonly #cluster: Cluster;
  readonly #server: Server;
  readonly #upgraded = new Set<Duplex>();
  #meddle: Meddle = (event, client) => client.send(event);
  #judge: (request: IncomingMessage) => Fate = () => undefined;
  readonly #refusals: (Refusal | undefined)[] = [];

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.on('upgrade', (request, socket: Socket) => this.#upgrade(request, socket));
  }

  static async open(cluster: Cluster): Promise<MeddlingApi> {
    const api = new MeddlingApi(cluster);
    api.#server.listen(0, '127.0.0.1');
    await once(api.#server, 'listening');
    return api;
  }

  get server(): URL {
    return new URL(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
  }

  /** From now on, for watches that are there already too. */
  meddle(meddle: Meddle): void {
    this.#meddle = meddle;
  }

  /** The next requests, of whatever kind, get these answers, one each; `undefined`: that of the API server. */
  refuse(...answers: readonly (Refusal | undefined)[]): void {
    this.#refusals.push(...answers);
  }

  /** From now on every request is handed to this first. */
  judge(judge: (request: IncomingMessage) => Fate): void {
    this.#judge = judge;
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    for (const socket of this.#upgraded) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #fateOf(request: IncomingMessage): Fate {
    const judged = this.#judge(request);
    return this.#refusals.shift() ?? judged;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const fate = this.#fateOf(request);
    if (typeof fate === 'function') return fate(response);
    if (fate === 'lost') return void response.destroy();
    const asked = this.#forward(request);
    asked.on('error', () => response.destroy());
    asked.on('response', (answer) => {
      if (fate === 'unheard') return void response.destroy();
      const isWatch = new URL(request.url ?? '', 'http://api').searchParams.has('watch') && answer.statusCode === 200;
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      if (isWatch) this.#relayEvents(answer, response);
      else answer.pipe(response);
    });
    response.once('close', () => asked.destroy());
    request.pipe(asked);
  }

  /** A WebSocket; one that is `unheard` is cut by the first word that comes back. */
  #upgrade(request: IncomingMessage, client: Socket): void {
    this.#upgraded.add(client);
    client.once('close', () => this.#upgraded.delete(client));
    client.on('error', () => undefined);
    const fate = this.#fateOf(request);
    if (fate === 'lost') return void client.destroy();
    if (typeof fate === 'function') {
      const response = new ServerResponse(request);
      response.assignSocket(client);
      response.once('finish', () => client.end());
      return fate(response);
    }
    const asked = this.#forward(request);
    asked.on('error', () => client.destroy());
    // The kubelet has no such pod, say.
    asked.on('response', (answer) => {
      client.write(headOf(answer));
      answer.pipe(client);
    });
    asked.on('upgrade', (answer, server, head) => {
      server.on('error', () => client.destroy());
      client.once('close', () => server.destroy());
      client.write(Buffer.concat([Buffer.from(headOf(answer)), head]));
      if (fate === 'unheard') server.once('data', () => client.destroy());
      else server.pipe(client);
      client.pipe(server);
    });
    asked.end();
  }

  #forward({ method, headers, url = '' }: IncomingMessage): ClientRequest {
    const { host: _, authorization = `Bearer ${this.#cluster.tokens.admin}`, ...passed } = headers;
    return httpsRequest(new URL(url, this.#cluster.server), {
      method,
      headers: { ...passed, authorization },
      ca: this.#cluster.ca,
      agent: false,
    });
  }

  #relayEvents(answer: IncomingMessage, response: ServerResponse): void {
    this.watches += 1;
    response.flushHeaders();
    let isOver = false;
    response.once('close', () => (isOver = true));
    const client: WatchingClient = {
      send: (event) => void (isOver || response.write(`${event}\n`)),
      end: () => {
        isOver = true;
        response.end();
      },
      breakOff: () => {
        if (!isOver) response.write('{"type":"MODI', () => response.destroy());
        isOver = true;
      },
    };
    answer.on('error', () => response.destroy());
    answer.once('end', () => response.end());
    createInterface({ input: answer })
      .on('line', (event) => (event.startsWith(BOOKMARK) ? client.send(event) : this.#meddle(event, client)))
      .on('error', () => response.destroy());
  }
}

/** The beginning of an answer, as it goes over the wire. */
function headOf({ statusCode = 0, rawHeaders }: IncomingMessage): string {
  const fields = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1]}\r\n`] : []));
  return `HTTP/1.1 ${statusCode} ${STATUS_CODES[statusCode] ?? ''}\r\n${fields.join('')}\r\n`;
}
