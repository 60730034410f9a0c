import type { Readable } from 'node:stream';

import { transient } from '../../domain/errors.ts';

/** Reads a stream of bytes in pieces of the reader's choosing; holds at most one chunk. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest = Buffer.alloc(0);

  constructor(stream: Readable) {
    this.#chunks = stream[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** Bytes up to a delimiter, without it; `undefined` at the end of the stream. */
  async until(delimiter: number, maxBytes: number): Promise<Buffer | undefined> {
    let searched = 0;
    for (;;) {
      const at = this.#rest.indexOf(delimiter, searched);
      if (at >= 0) {
        const found = this.#rest.subarray(0, at);
        this.#rest = this.#rest.subarray(at + 1);
        return found;
      }
      searched = this.#rest.byteLength;
      if (searched > maxBytes) throw transient('SourceUnavailable', 'git answered with a line that is too long');
      const chunk = await this.#next();
      if (chunk === undefined && searched === 0) return undefined;
      if (chunk === undefined) throw brokenOff();
      this.#rest = Buffer.concat([this.#rest, chunk]);
    }
  }

  /** At least one byte, at most so many. */
  async some(maxBytes: number): Promise<Buffer> {
    if (this.#rest.byteLength === 0) {
      const chunk = await this.#next();
      if (chunk === undefined) throw brokenOff();
      this.#rest = Buffer.from(chunk);
    }
    const taken = this.#rest.subarray(0, maxBytes);
    this.#rest = this.#rest.subarray(taken.byteLength);
    return taken;
  }

  async #next(): Promise<Buffer | undefined> {
    const { done, value } = await this.#chunks.next();
    return done === true ? undefined : value;
  }
}

function brokenOff(): Error {
  return transient('SourceUnavailable', 'git broke off its answer');
}
