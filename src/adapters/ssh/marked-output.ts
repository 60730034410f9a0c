import type { CappedOutput } from '../../ports/run-streams.ts';

/**
 * What is kept of what a login shell prints before the mark: it is searched again with every chunk, and the host decides how
 * many of those there are.
 */
const GREETING_BYTES = 4 * 1024;

/** One output of a command, from the mark on: what comes before it is not the command's. */
export class MarkedOutput {
  readonly #mark: Buffer;
  readonly #output: CappedOutput;
  #before: Buffer | undefined = Buffer.alloc(0);

  constructor(mark: string, output: CappedOutput) {
    this.#mark = Buffer.from(mark);
    this.#output = output;
  }

  /** Throws what the output beneath throws. */
  push(chunk: Buffer): void {
    if (this.#before === undefined) return this.#output.push(chunk);
    const seen = Buffer.concat([this.#before, chunk]);
    const at = seen.indexOf(this.#mark);
    if (at < 0) {
      this.#before = seen.subarray(-GREETING_BYTES);
      return;
    }
    this.#before = undefined;
    this.#output.push(seen.subarray(at + this.#mark.length));
  }

  get isMarked(): boolean {
    return this.#before === undefined;
  }

  /** The last that came instead of the mark. */
  unmarked(): Buffer {
    return this.#before ?? Buffer.alloc(0);
  }

  toBuffer(): Buffer {
    return this.#output.toBuffer();
  }
}
