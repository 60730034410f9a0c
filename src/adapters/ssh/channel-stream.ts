import { Duplex } from 'node:stream';

import type { ClientChannel } from 'ssh2';

import { onAbort } from '../../ports/abort.ts';

/** What is written goes in pieces, and before each of them the host is waited for. */
const PIECE_BYTES = 32 * 1024;

/** The connection that a channel is on. */
export interface ChannelHome {
  /** Aborts when it is lost. */
  readonly gone: AbortSignal;
  room(bytes: number, signal: AbortSignal): Promise<void>;
}

/**
 * A channel to a socket of the host, as a stream that Node's own clients get along with: ssh2's is never `destroyed`, and
 * ends the same way whether the other side has ended it or the connection was lost.
 */
export class ChannelStream extends Duplex {
  readonly #channel: ClientChannel;
  readonly #home: ChannelHome;
  readonly #unlink: () => void;

  /** `whyEnded`: of a command, what it ended for, once it has; `undefined` for an end like that of a socket. */
  constructor(channel: ClientChannel, home: ChannelHome, whyEnded = Promise.resolve<Error | undefined>(undefined)) {
    // As Node's own sockets: it leaves it to them to end their half after the other.
    super({ allowHalfOpen: false });
    this.#channel = channel;
    this.#home = home;
    // It may break before whoever asked for it has it; an error without a listener would end the process.
    this.on('error', () => undefined);
    channel.on('data', (chunk: Buffer) => {
      if (!this.destroyed && !this.push(chunk)) channel.pause();
    });
    // A socket has no such output; what a host sends there all the same would be kept, and hold the end back.
    channel.stderr.resume();
    channel.on(
      'end',
      () => void whyEnded.then((error) => (error === undefined ? this.push(null) : this.destroy(error))),
    );
    channel.on('error', (error: Error) => this.destroy(error));
    channel.once('close', () => {
      // What is left to read is here, and the connection may end with its last channel.
      this.#unlink();
      this.#end();
    });
    this.#unlink = onAbort(home.gone, () => this.destroy(home.gone.reason as Error));
  }

  override _read(): void {
    this.#channel.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void this.#send(chunk, done);
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

  async #send(chunk: Buffer, done: (error?: Error | null) => void): Promise<void> {
    for (let start = 0; start < chunk.length; start += PIECE_BYTES) {
      const piece = chunk.subarray(start, start + PIECE_BYTES);
      await this.#home.room(piece.length, this.#home.gone);
      if (this.destroyed) return;
      const error = await new Promise<Error | null | undefined>((resolve) => void this.#channel.write(piece, resolve));
      if (error) return done(error);
    }
    done();
  }

  /** The other side is through with it both ways: what it sent is read, and nothing is written any more. */
  #end(): void {
    if (this.readableEnded) this.destroy();
    else this.once('end', () => this.destroy());
  }
}
