/** 1 byte stream number, 3 zero bytes, 4 bytes length (big endian); then so many bytes of that stream. */
const HEADER_BYTES = 8;

/**
 * Takes apart the framing of an exec without a terminal. Our own, because docker-modem's copies everything that is
 * pending for every chunk (quadratic in the size of a frame) and reads a broken frame as output.
 */
export class Demuxer {
  readonly #onPayload: (stream: 'stdout' | 'stderr', bytes: Buffer) => void;
  #header = Buffer.alloc(0);
  #stream: 'stdout' | 'stderr' = 'stdout';
  #remaining = 0;

  constructor(onPayload: (stream: 'stdout' | 'stderr', bytes: Buffer) => void) {
    this.#onPayload = onPayload;
  }

  /** Throws for a frame of no known stream: what follows cannot be made sense of. */
  push(chunk: Buffer): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#remaining === 0) rest = this.#readHeader(rest);
      else {
        const payload = rest.subarray(0, this.#remaining);
        this.#remaining -= payload.length;
        this.#onPayload(this.#stream, payload);
        rest = rest.subarray(payload.length);
      }
    }
  }

  /** `false` in the middle of a frame: more was promised than came. */
  get isWhole(): boolean {
    return this.#remaining === 0 && this.#header.length === 0;
  }

  #readHeader(chunk: Buffer): Buffer {
    const missing = HEADER_BYTES - this.#header.length;
    this.#header = Buffer.concat([this.#header, chunk.subarray(0, missing)]);
    if (this.#header.length === HEADER_BYTES) {
      const number = this.#header.readUInt8(0);
      if (number !== 1 && number !== 2) throw new Error(`the engine sent a frame of stream ${number}`);
      this.#stream = number === 1 ? 'stdout' : 'stderr';
      this.#remaining = this.#header.readUInt32BE(4);
      this.#header = Buffer.alloc(0);
    }
    return chunk.subarray(missing);
  }
}
