import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** From one event to the next. */
const PACE_MS = 500;

/**
 * As much of a Docker engine as one shows on which a container starts again and again and is gone when somebody looks.
 * It can be made to break off every answer.
 */
export class HollowEngine {
  isBroken = false;
  readonly #server: Server;

  readonly #events = new Set<ServerResponse>();
  readonly #pulse: NodeJS.Timeout;

  private constructor(server: Server, container: string) {
    this.#server = server;
    const attributes = { name: container };
    const event = { Type: 'container', Action: 'start', Actor: { ID: 'c0ffee', Attributes: attributes } };
    this.#pulse = setInterval(() => {
      for (const response of this.#events) response.write(`${JSON.stringify(event)}\n`);
    }, PACE_MS);
    server.on('request', ({ url = '' }, response) => {
      if (this.isBroken) return void response.destroy();
      const path = url.replace(/^\/v[\d.]+/, '').split('?', 1)[0];
      if (path === '/events') {
        this.#events.add(response.writeHead(200));
        response.once('close', () => this.#events.delete(response)).flushHeaders();
        return;
      }
      if (path === '/containers/json') return void response.writeHead(200).end('[]');
      if (path === '/_ping') return void response.writeHead(200).end('OK');
      response.writeHead(404, { 'content-type': 'application/json' }).end('{"message":"no such container"}');
    });
  }

  /** `container`: name of the one that never is there. */
  static async start(container: string): Promise<HollowEngine> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new HollowEngine(server, container);
  }

  get address(): string {
    return `tcp://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    clearInterval(this.#pulse);
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
