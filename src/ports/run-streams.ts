import { terminal, transient } from '../domain/errors.ts';

/*
 * What every WorkspaceTarget needs to keep the promises of `run`, whatever carries the bytes: written once, beside the
 * port, because adapters do not import each other.
 */

const DEFAULT_MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** C strings end at NUL, so such an element would arrive cut short. Throws `Internal`: our own code let it through. */
export function refuseNul(argv: readonly string[]): void {
  if (argv.length > 0 && argv.every((element) => !element.includes('\0'))) return;
  throw terminal('Internal', 'plugset built a command that is empty or holds a NUL character, so it was not run');
}

/**
 * One output of a command, kept up to a cap. In one piece: kept as it came, a byte at a time from a target that means harm
 * would take a hundred times the cap.
 */
export class CappedOutput {
  readonly #maxBytes: number;
  #kept: Buffer = Buffer.alloc(0);
  #bytes = 0;

  constructor(maxBytes: number = DEFAULT_MAX_OUTPUT_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Throws `ObserveFailed` for the chunk that goes over the cap. */
  push(chunk: Buffer): void {
    const bytes = this.#bytes + chunk.length;
    if (bytes > this.#maxBytes) {
      throw transient(
        'ObserveFailed',
        `a command on the target printed more than ${this.#maxBytes} bytes and was ended`,
      );
    }
    if (bytes > this.#kept.length) this.#grow(bytes);
    chunk.copy(this.#kept, this.#bytes);
    this.#bytes = bytes;
  }

  toBuffer(): Buffer {
    return this.#kept.subarray(0, this.#bytes);
  }

  #grow(bytes: number): void {
    const larger = Buffer.allocUnsafe(Math.min(Math.max(bytes, 2 * this.#kept.length), this.#maxBytes));
    this.#kept.copy(larger, 0, 0, this.#bytes);
    this.#kept = larger;
  }
}

/**
 * Writes `source` to the command's stdin no faster than it is taken, and closes it. Rejects only with an error of
 * `source`. When `over` aborts (the command has ended, with or without having read everything) the rest is dropped.
 */
export async function feedStdin(
  stdin: NodeJS.WritableStream,
  source: AsyncIterable<Uint8Array>,
  over: AbortSignal,
): Promise<void> {
  for await (const chunk of source) {
    if (over.aborted) return;
    if (!stdin.write(chunk)) await drained(stdin, over);
  }
  if (!over.aborted) stdin.end();
}

function drained(stdin: NodeJS.WritableStream, over: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stdin.removeListener('drain', done);
      over.removeEventListener('abort', done);
      resolve();
    };
    if (over.aborted) return resolve();
    stdin.once('drain', done);
    over.addEventListener('abort', done, { once: true });
  });
}
