import type { CappedOutput } from '../../ports/run-streams.ts';

/** Characters after the mark, more than any exit code has. */
const LONGEST_LAST = 16;

/** One output of a command, up to the words with which it ends: a mark, and what follows it up to `closer`. */
export class EndedOutput {
  readonly #output: CappedOutput;
  readonly #mark: Buffer;
  readonly #closer: string;
  /** The end of what has come, which may be the beginning of the mark. */
  #tail: Buffer = Buffer.alloc(0);
  #last: string | undefined;

  /** `closer`: left out where the mark itself is the end. */
  constructor(output: CappedOutput, mark: string, closer = '') {
    this.#output = output;
    this.#mark = Buffer.from(mark);
    this.#closer = closer;
  }

  /** What came after the mark; `undefined`: it has not ended. */
  get last(): string | undefined {
    return this.#last;
  }

  /** Throws what the output beneath throws, and where the end has no end. What comes after the end is of nobody who was asked. */
  push(chunk: Buffer): void {
    if (this.#last !== undefined) return;
    const seen = Buffer.concat([this.#tail, chunk]);
    const at = seen.indexOf(this.#mark);
    const kept = at < 0 ? Math.max(0, seen.length - this.#mark.length + 1) : at;
    this.#output.push(seen.subarray(0, kept));
    this.#tail = seen.subarray(kept);
    if (at < 0) return;
    const after = this.#tail.toString('latin1', this.#mark.length, this.#mark.length + LONGEST_LAST);
    const end = after.indexOf(this.#closer);
    if (end >= 0) this.#last = after.slice(0, end);
    else if (after.length === LONGEST_LAST) throw new Error('what ends the output does not end');
  }

  toBuffer(): Buffer {
    return this.#output.toBuffer();
  }
}
