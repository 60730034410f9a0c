import { Duplex } from 'node:stream';

import type { ClientChannel } from 'ssh2';

import { onAbort } from '../../ports/abort.ts';

/**
 * A channel to a socket of the host, as a stream that Node's own clients get along with: ssh2's is never `destroyed`, and
 * ends the same way whether the other side has ended it or the connection was lost.
 */
export class ChannelStream extends Duplex {
  readonly #channel: ClientChannel;
  readonly #unlink: () => void;

  /** `gone` aborts when the connection is lost. */
  constructor(channel: ClientChannel, gone: AbortSignal) {
    // As Node's own sockets: it leaves it to them to end their half after the other.
    super({ allowHalfOpen: false });
    this.#channel = channel;
    // It may break before whoever asked for it has it; an error without a listener would end the process.
    this.on('error', () => undefined);
    channel.on('data', (chunk: Buffer) => {
      if (!this.destroyed && !this.push(chunk)) channel.pause();
    });
    channel.on('end', () => this.push(null));
    channel.on('error', (error: Error) => this.destroy(error));
    channel.once('close', () => this.#end());
    this.#unlink = onAbort(gone, () => this.destroy(gone.reason as Error));
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#channel.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#channel.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#unlink();
    // What still comes is dropped; a channel that nobody reads is never closed.
    this.#channel.resume();
    this.#channel.close();
    done(error);
  }

  /** The other side is through with it both ways: what it sent is read, and nothing is written any more. */
  #end(): void {
    if (this.readableEnded) this.destroy();
    else this.once('end', () => this.destroy());
  }
}
