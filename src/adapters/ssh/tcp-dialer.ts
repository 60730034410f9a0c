import { connect, type Socket } from 'node:net';

import { aborted, transient } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { HostNames } from './host-names.ts';

/** One for all: it is the threads of the process that are few. */
const NAMES = new HostNames();

/** Straight to a port of a host. */
export class TcpDialer implements StreamDialer {
  readonly #host: string;
  readonly #port: number;

  constructor(host: string, port: number) {
    this.#host = host;
    this.#port = port;
  }

  async dial(signal: AbortSignal): Promise<Socket> {
    const where = `${this.#host} port ${this.#port}`;
    try {
      signal.throwIfAborted();
      return await this.#connected(signal);
    } catch (error) {
      if (signal.aborted) throw aborted(`the connection to ${where} was called off`, error);
      const { code = 'no answer' } = error as NodeJS.ErrnoException;
      throw transient('Unreachable', `${where} cannot be reached (${code})`, error);
    }
  }

  async #connected(signal: AbortSignal): Promise<Socket> {
    const addresses = await NAMES.addressesOf(this.#host, signal);
    const socket = connect({
      host: this.#host,
      port: this.#port,
      // Without it a command on a connection that stands takes 17 times as long: its packets are small, and wait for each other.
      noDelay: true,
      autoSelectFamily: true,
      lookup: (_host, _options, done) => done(null, [...addresses]),
    });
    try {
      await new Promise<void>((resolve, reject) => {
        const unlink = onAbort(signal, () => reject(signal.reason as Error));
        socket.once('connect', () => {
          unlink();
          resolve();
        });
        socket.once('error', (error) => {
          unlink();
          reject(error);
        });
      });
      return socket;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }
}
