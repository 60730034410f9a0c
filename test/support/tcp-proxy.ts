import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** A network between a client and a server that a test can cut or freeze. */
export class TcpProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #state: 'open' | 'cut' | 'frozen' = 'open';

  private constructor(target: { readonly host: string; readonly port: number }) {
    this.#server = createServer((client) => this.#accept(client, target));
  }

  static async to(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Ends every connection, and every new one at once, until `open`. */
  cut(): void {
    this.#state = 'cut';
    this.#destroyAll();
  }

  /** Nothing gets through any more and nobody is told, as when a cable is pulled, until `open`. */
  freeze(): void {
    this.#state = 'frozen';
    for (const socket of this.#sockets) {
      socket.unpipe();
      socket.pause();
    }
  }

  /** New connections get through. What was frozen is lost. */
  open(): void {
    if (this.#state === 'frozen') this.#destroyAll();
    this.#state = 'open';
  }

  async close(): Promise<void> {
    this.#destroyAll();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket, target: { readonly host: string; readonly port: number }): void {
    this.#keep(client);
    if (this.#state === 'cut') client.destroy();
    if (this.#state !== 'open') return;
    const server = connect(target.port, target.host);
    this.#keep(server);
    client.pipe(server).pipe(client);
    client.on('close', () => server.destroy());
    server.on('close', () => client.destroy());
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}
