import { Duplex } from 'node:stream';

import type { RawData, WebSocket } from 'ws';

import { transient, type ReconcileError } from '../../domain/errors.ts';
import { quotable } from './quotable.ts';

/** The endpoint takes no larger messages. */
const LARGEST_FRAME_BYTES = 65_000;
const NORMAL = 1000;
const UNSUPPORTED = 1003;
/** What `ws` says when the connection ended without a word. */
const WITHOUT_A_WORD = 1006;
/** A key exchange is some messages of a few KiB; this is what waits in one direction before the sender is held back. */
const BUFFER_BYTES = 256 * 1024;

export interface TunnelOf {
  /** What it was opened with: a secret, which the other side may quote. */
  readonly url: string;
  readonly description: string;
  /** Called whenever something goes through. */
  readonly onUse?: (() => void) | undefined;
}

type Done = (error?: Error | null) => void;

/**
 * The bytes in the binary messages of a WebSocket; where one message ends means nothing. Ends with a close of 1000; any other
 * end is an error that says code and reason, because an endpoint that cannot reach its instance says so there and nowhere else.
 * Is closed when the WebSocket is, so that its place at the endpoint is free again.
 */
export class TunnelStream extends Duplex {
  readonly #socket: WebSocket;
  readonly #of: TunnelOf;
  #isOver = false;

  constructor(socket: WebSocket, of: TunnelOf) {
    super({ readableHighWaterMark: BUFFER_BYTES, writableHighWaterMark: BUFFER_BYTES });
    this.#socket = socket;
    this.#of = of;
    // An error that comes before anybody listens would end the process; it can be read off the stream.
    this.on('error', () => undefined);
    socket.on('error', (error: { readonly code?: string }) => this.destroy(this.#broken(error.code ?? 'unknown')));
    socket.on('message', (data, isBinary) => this.#take(data, isBinary));
    socket.once('close', (code, reason) => this.#end(code, reason));
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    this.#send(chunk, done);
  }

  /** Many small writes travel as few messages. */
  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: Done): void {
    this.#send(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _final(done: Done): void {
    this.#socket.close(NORMAL);
    done();
  }

  override _destroy(error: Error | null, done: Done): void {
    if (this.#isOver) return done(error);
    this.#socket.once('close', () => done(error));
    // A paused one would not hear the other side agree.
    this.#socket.resume();
    this.#socket.close(NORMAL);
  }

  #take(data: RawData, isBinary: boolean): void {
    if (this.destroyed) return;
    if (!isBinary) {
      this.#socket.close(UNSUPPORTED);
      this.destroy(this.#broken('it sent text, which is no part of the protocol'));
      return;
    }
    this.#of.onUse?.();
    if (!this.push(data)) this.#socket.pause();
  }

  #end(code: number, reason: Buffer): void {
    this.#isOver = true;
    if (this.destroyed) return;
    if (code !== NORMAL) return void this.destroy(this.#broken(this.#closed(code, reason)));
    this.push(null);
    this.end();
  }

  #send(bytes: Buffer, then: Done): void {
    this.#of.onUse?.();
    // What fails while it is being closed, failed because of that: code and reason come with the end, and go first.
    const done: Done = (error) => {
      if (error && !this.#isOver) this.#socket.once('close', () => then(error));
      else then(error);
    };
    for (let start = 0; start < bytes.length; start += LARGEST_FRAME_BYTES) {
      const end = Math.min(start + LARGEST_FRAME_BYTES, bytes.length);
      // Once the last has gone, all have.
      if (end === bytes.length) this.#socket.send(bytes.subarray(start, end), { binary: true }, done);
      else this.#socket.send(bytes.subarray(start, end), { binary: true });
    }
    if (bytes.length === 0) done();
  }

  #broken(how: string): ReconcileError {
    return transient('Unreachable', `the tunnel to ${this.#of.description} broke: ${how}`);
  }

  #closed(code: number, reason: Buffer): string {
    if (code === WITHOUT_A_WORD) return 'the connection ended without a word (1006)';
    const text = quotable(reason.toString(), this.#of.url);
    return `closed with ${code}${text === '' ? '' : `, "${text}"`}`;
  }
}
