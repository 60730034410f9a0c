const NEWLINE = 0x0a;

/** One line was longer than any may be. */
export class LineTooLong extends Error {
  constructor(longestBytes: number) {
    super(`a line of more than ${longestBytes} bytes`);
  }
}

/**
 * The lines of a stream, without their ends; what follows the last end is no line, but cut off. Decodes whole lines only: a
 * character may come in two chunks. Reads on only when the last line was taken.
 */
export async function* readLines(chunks: AsyncIterable<Buffer>, longestBytes: number): AsyncGenerator<string, void> {
  let begun: Buffer[] = [];
  let begunBytes = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      if (begunBytes + end - from > longestBytes) throw new LineTooLong(longestBytes);
      const line = Buffer.concat([...begun, chunk.subarray(from, end)]).toString('utf8');
      begun = [];
      begunBytes = 0;
      from = end + 1;
      if (line.trim() !== '') yield line;
    }
    if (from < chunk.length) begun.push(chunk.subarray(from));
    begunBytes += chunk.length - from;
    if (begunBytes > longestBytes) throw new LineTooLong(longestBytes);
  }
}
