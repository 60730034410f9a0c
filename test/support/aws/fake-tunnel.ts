import { connect, type Socket } from 'node:net';

import type { WebSocket } from 'ws';

const HELD_BYTES = 1_048_576;

/** One tunnel that is open: what the WebSocket says goes to the instance, and back. */
export class FakeTunnel {
  readonly #webSocket: WebSocket;
  readonly #target: Socket;
  readonly #lifetime: NodeJS.Timeout;

  /** `address`: where the instance listens, `tcp://host:port`. */
  constructor(webSocket: WebSocket, address: string, lifetimeMs: number, isFragmenting: boolean) {
    this.#webSocket = webSocket;
    const { hostname, port } = new URL(address);
    this.#target = connect({ host: hostname, port: Number(port), noDelay: true });
    this.#lifetime = setTimeout(() => this.close(1000, 'Maximum tunnel duration reached'), lifetimeMs);
    this.#relayIn();
    this.#relayOut(isFragmenting);
    // The instance had the connection and let go of it, or never took it: who opened the tunnel sees which by the code.
    this.#target.once('error', () => this.close(1011, 'Unable to connect to target'));
    for (const event of ['end', 'close']) this.#target.once(event, () => this.close(1000, ''));
    webSocket.once('close', () => {
      clearTimeout(this.#lifetime);
      this.#target.destroy();
    });
  }

  close(code: number, reason: string): void {
    this.#webSocket.close(code, reason);
  }

  /** As a cable does that is pulled: no close frame. */
  cut(): void {
    this.#webSocket.terminate();
  }

  /** Takes and gives nothing any more, not even the answer to a ping; what is under way is kept for {@link thaw}. */
  freeze(): void {
    this.#webSocket.pause();
    this.#target.pause();
  }

  thaw(): void {
    this.#webSocket.resume();
    this.#target.resume();
  }

  /** A protocol error: everything that counts is binary. */
  sendText(): void {
    this.#webSocket.send('not a tunnel');
  }

  /** Calls back when they have been sent. */
  onFirstBytes(sent: () => void): void {
    this.#target.once('data', sent);
  }

  #relayIn(): void {
    this.#webSocket.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) return this.close(1003, 'Only binary messages');
      if (this.#target.write(data) || this.#target.destroyed) return;
      this.#webSocket.pause();
      this.#target.once('drain', () => this.#webSocket.resume());
    });
  }

  #relayOut(isFragmenting: boolean): void {
    this.#target.on('data', (chunk) => {
      const isWhole = !isFragmenting || chunk.length < 2;
      const half = isWhole ? 0 : chunk.length >> 1;
      if (!isWhole) this.#webSocket.send(chunk.subarray(0, half), { binary: true, fin: false });
      this.#webSocket.send(chunk.subarray(half), { binary: true, fin: true }, () => {
        if (this.#webSocket.bufferedAmount < HELD_BYTES) this.#target.resume();
      });
      if (this.#webSocket.bufferedAmount >= HELD_BYTES) this.#target.pause();
    });
  }
}
