import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Stands between a client and a server, on unix sockets or TCP, and misbehaves when told to. */
export class FaultProxy {
  readonly #upstream: string;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #directory = '';
  #address = '';
  readonly #clients = new Set<Socket>();
  readonly #asking = new Set<Socket>();
  #isBlackHole = false;
  #isRefusing = false;
  #latencyMs = 0;
  #isSlowBothWays = false;
  #bytesUntilCut = Infinity;
  #accepted = 0;

  private constructor(upstream: string) {
    this.#upstream = upstream;
    // A line that holds small packets back for one another would be 40 ms slow by itself.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#accept(client));
  }

  /** `upstream`: an engine's address, `unix:///path` or `tcp://host:port`; `front`: what the proxy itself is reached by. */
  static async open(upstream: string, front: 'unix' | 'tcp' = 'unix'): Promise<FaultProxy> {
    const proxy = new FaultProxy(upstream);
    proxy.#directory = await mkdtemp(join(tmpdir(), 'plugset-proxy-'));
    const socket = join(proxy.#directory, 'socket');
    proxy.#server.listen(front === 'unix' ? { path: socket } : { host: '127.0.0.1', port: 0 });
    await once(proxy.#server, 'listening');
    const bound = proxy.#server.address();
    proxy.#address = typeof bound === 'object' ? `tcp://127.0.0.1:${bound?.port}` : `unix://${socket}`;
    return proxy;
  }

  get address(): string {
    return this.#address;
  }

  /** Ends every connection there is, as an engine does that dies. New ones are served. */
  cut(): void {
    for (const socket of [...this.#pairs].flat()) socket.destroy();
  }

  /** From now on whatever is sent is lost, in both directions, and nobody is told; connections are accepted. */
  blackHole(): void {
    this.#isBlackHole = true;
  }

  /** Ends what was lost or refused; connections from now on get through. */
  heal(): void {
    this.#isBlackHole = false;
    this.#isRefusing = false;
    this.cut();
  }

  /** Ends every connection, and from now on every new one at once. */
  refuse(): void {
    this.#isRefusing = true;
    this.cut();
  }

  /** Delays everything that comes from the server, or that and what goes to it. */
  delay(latencyMs: number, ways: 'back' | 'both' = 'back'): void {
    this.#latencyMs = latencyMs;
    this.#isSlowBothWays = ways === 'both';
  }

  /** Cuts every connection once, in the middle of whatever is under way when so many bytes more have gone through. */
  cutAfter(bytes: number): void {
    this.#bytesUntilCut = bytes;
  }

  /** Every connection that was ever accepted. */
  get accepted(): number {
    return this.#accepted;
  }

  /** Those that the client has not closed, not even its half. */
  get connections(): number {
    return this.#clients.size;
  }

  /** Those of them on which the client has sent anything: the others may be kept for whoever asks next. */
  get asked(): number {
    return this.#asking.size;
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#directory, { recursive: true, force: true });
  }

  #accept(client: Socket): void {
    this.#accepted += 1;
    if (this.#isRefusing) return void client.destroy();
    const server = connectTo(this.#upstream);
    const pair = [client, server] as const;
    this.#clients.add(client);
    client.once('data', () => this.#asking.add(client));
    for (const event of ['end', 'close'])
      client.once(event, () => {
        this.#clients.delete(client);
        this.#asking.delete(client);
      });
    this.#pairs.add(pair);
    this.#relay(client, server, () => (this.#isSlowBothWays ? this.#latencyMs : 0));
    this.#relay(server, client, () => this.#latencyMs);
    for (const socket of pair) {
      socket.on('error', () => undefined);
      socket.once('close', () => {
        this.#pairs.delete(pair);
        for (const other of pair) other.destroy();
      });
    }
  }

  #relay(from: Socket, to: Socket, latencyMs: () => number): void {
    const later = (step: () => void): void => void (latencyMs() === 0 ? step() : setTimeout(step, latencyMs()));
    from.on('data', (chunk) => {
      later(() => {
        if (this.#isBlackHole || this.#isCutBy(chunk.length) || to.write(chunk) || to.destroyed) return;
        from.pause();
        to.once('drain', () => from.resume());
      });
    });
    from.on('end', () => later(() => this.#isBlackHole || to.end()));
  }

  #isCutBy(bytes: number): boolean {
    this.#bytesUntilCut -= bytes;
    if (this.#bytesUntilCut > 0) return false;
    this.#bytesUntilCut = Infinity;
    this.cut();
    return true;
  }
}

function connectTo(address: string): Socket {
  if (address.startsWith('unix://')) return connect({ path: address.slice('unix://'.length), allowHalfOpen: true });
  const { hostname, port } = new URL(address);
  return connect({ host: hostname, port: Number(port), allowHalfOpen: true, noDelay: true });
}
