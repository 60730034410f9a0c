import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';

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

const BOOKMARK = '{"type":"BOOKMARK"';

/**
 * Stands between a client and a real API server, over HTTP of its own, and meddles with what that answers. For faults that
 * need to know an event from another one; `FaultProxy` is for those of the network.
 */
export class MeddlingApi {
  /** Every watch that got through. */
  watches = 0;
  /** Every request. */
  requests = 0;
  readonly #cluster: Cluster;
  readonly #server: Server;
  #meddle: Meddle = (event, client) => client.send(event);
  readonly #refusals: (((response: ServerResponse) => void) | undefined)[] = [];

  private constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#server = createServer((request, response) => this.#answer(request, response));
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
  refuse(...answers: readonly (((response: ServerResponse) => void) | undefined)[]): void {
    this.#refusals.push(...answers);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    this.requests += 1;
    const refusal = this.#refusals.shift();
    if (refusal !== undefined) return refusal(response);
    const { method, headers, url = '' } = request;
    const { host: _, ...passed } = headers;
    const asked = httpsRequest(new URL(url, this.#cluster.server), {
      method,
      headers: passed,
      ca: this.#cluster.ca,
      agent: false,
    });
    asked.on('error', () => response.destroy());
    asked.on('response', (answer) => {
      const isWatch = new URL(url, 'http://api').searchParams.has('watch') && answer.statusCode === 200;
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      if (isWatch) this.#relayEvents(answer, response);
      else answer.pipe(response);
    });
    response.once('close', () => asked.destroy());
    request.pipe(asked);
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
