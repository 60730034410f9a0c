import { expect, test } from 'vitest';

import { Demuxer } from '../../../../src/adapters/docker/demux.ts';

function frame(stream: number, text: string): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(stream, 0);
  header.writeUInt32BE(Buffer.byteLength(text), 4);
  return Buffer.concat([header, Buffer.from(text)]);
}

function demux(chunks: readonly Buffer[]): {
  readonly stdout: string;
  readonly stderr: string;
  readonly isWhole: boolean;
} {
  const output = { stdout: '', stderr: '' };
  const demuxer = new Demuxer((stream, bytes) => (output[stream] += bytes.toString()));
  for (const chunk of chunks) demuxer.push(chunk);
  return { ...output, isWhole: demuxer.isWhole };
}

const FRAMES = Buffer.concat([frame(1, 'one'), frame(2, 'two'), frame(1, ''), frame(1, 'three')]);

test('frames come apart the same wherever the chunks were cut', () => {
  for (let size = 1; size <= FRAMES.length; size += 1) {
    const chunks = Array.from({ length: Math.ceil(FRAMES.length / size) }, (_, i) =>
      FRAMES.subarray(i * size, (i + 1) * size),
    );
    expect(demux(chunks)).toEqual({ stdout: 'onethree', stderr: 'two', isWhole: true });
  }
});

test('a stream that stops within a header or a payload is not whole', () => {
  expect(demux([frame(1, 'four').subarray(0, 5)]).isWhole).toBe(false);
  expect(demux([frame(1, 'four').subarray(0, 10)]).isWhole).toBe(false);
  expect(demux([]).isWhole).toBe(true);
});

test('a frame of no known stream is an error, not output', () => {
  expect(() => demux([frame(3, 'daemon says no')])).toThrow(/stream 3/);
  expect(() => demux([Buffer.from('plain text, as a terminal sends it')])).toThrow(/stream/);
});
