import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';

import { expect, onTestFinished, test } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';

import { openTunnel } from '../../../../src/adapters/aws/open-tunnel.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { Clock } from '../../../../src/ports/clock.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SECRET = 'X-Amz-Signature=planted-secret';
const signal = new AbortController().signal;

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `ws://127.0.0.1:${(server.address() as AddressInfo).port}/openTunnel?${SECRET}`;
}

/** A server that hands every WebSocket to `accept`. */
async function serving(accept: (socket: WebSocket) => void): Promise<string> {
  const http = createServer();
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', accept);
  onTestFinished(() => {
    for (const socket of sockets.clients) socket.terminate();
  });
  return listening(http);
}

/** A server that answers every upgrade with this. */
async function refusing(status: number, body: string): Promise<string> {
  const http = createServer();
  http.on('upgrade', (_request, socket) => {
    socket.end(
      `HTTP/1.1 ${status} No\r\ncontent-length: ${body.length}\r\nx-amzn-requestid: req-7\r\nconnection: close\r\n\r\n${body}`,
    );
  });
  return listening(http);
}

async function open(url: string, clock: Clock = new SystemClock(), until = signal): Promise<Duplex> {
  const stream = await openTunnel({ url, description: 'instance i-1 through eice-1', clock }, until);
  onTestFinished(() => void stream.destroy());
  return stream;
}

/** What it fails with, having looked that no part of it shows the address. */
async function failure(work: Promise<unknown>): Promise<unknown> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  const { message, stack, cause } = error as Error;
  expect(`${message} ${stack} ${String(cause)} ${JSON.stringify(error)}`).not.toContain('planted-secret');
  return error;
}

test('carries bytes both ways, in messages of at most 65,000 bytes', async () => {
  const sizes: number[] = [];
  const url = await serving((socket) => {
    socket.on('message', (data: Buffer, isBinary) => {
      expect(isBinary).toBe(true);
      sizes.push(data.length);
      socket.send(data);
    });
  });
  const stream = await open(url);
  const sent = randomBytes(1_000_003);
  const received: Buffer[] = [];
  let bytes = 0;
  const complete = new Promise<void>((resolve) => {
    stream.on('data', (chunk: Buffer) => {
      received.push(chunk);
      bytes += chunk.length;
      if (bytes === sent.length) resolve();
    });
  });
  for (let start = 0; start < sent.length; start += 100_000) stream.write(sent.subarray(start, start + 100_000));
  await complete;
  expect(Buffer.concat(received).equals(sent)).toBe(true);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(65_000);
});

test('holds the sender back while nobody reads', async () => {
  const total = 64 * 1024 * 1024;
  let socket: WebSocket | undefined;
  const url = await serving((one) => {
    socket = one;
    for (let sent = 0; sent < total; sent += 1024 * 1024) one.send(Buffer.alloc(1024 * 1024));
  });
  const stream = await open(url);
  await once(stream, 'readable');
  expect(socket?.bufferedAmount).toBeGreaterThan(total / 2);
  socket?.close(1000);
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) bytes += chunk.length;
  expect(bytes).toBe(total);
});

test('takes what came in the same packet as the answer to the upgrade', async () => {
  const url = await serving((socket) => {
    socket.send(Buffer.from('SSH-2.0-OpenSSH'));
    socket.close(1000);
  });
  expect((await buffer(await open(url))).toString()).toBe('SSH-2.0-OpenSSH');
});

test('joins what was fragmented', async () => {
  const url = await serving((socket) => {
    socket.send(Buffer.from('SSH-'), { fin: false });
    socket.send(Buffer.from('2.0'), { fin: true });
    socket.close(1000);
  });
  expect((await buffer(await open(url))).toString()).toBe('SSH-2.0');
});

test('ends with a close of 1000, and says code and reason of any other', async () => {
  const url = await serving((socket) => socket.close(1011, 'instance unreachable'));
  const stream = await open(url).catch((error: unknown) => error);
  const error = stream instanceof Error ? stream : await failure(buffer(stream as Duplex));
  expect(error).toMatchObject({
    class: 'transient',
    reason: 'Unreachable',
    message: expect.stringContaining('closed with 1011, "instance unreachable"') as string,
  });
});

test('takes text for a breach of the protocol, also in the first packet', async () => {
  const url = await serving((socket) => socket.send('hello'));
  const stream = await open(url).catch((error: unknown) => error);
  const error = stream instanceof Error ? stream : await failure(buffer(stream as Duplex));
  expect(error).toMatchObject({ reason: 'Unreachable', message: expect.stringContaining('text') as string });
});

test('says that a connection ended without a word', async () => {
  const url = await serving((socket) => socket.terminate());
  const stream = await open(url).catch((error: unknown) => error);
  const error = stream instanceof Error ? stream : await failure(buffer(stream as Duplex));
  expect(error).toMatchObject({ reason: 'Unreachable', message: expect.stringContaining('1006') as string });
});

test('is closed once the other side knows, and in time when it never says so', async () => {
  const closed: number[] = [];
  const url = await serving((socket) => socket.on('close', (code) => closed.push(code)));
  const stream = await open(url);
  stream.destroy();
  await once(stream, 'close');
  expect(closed).toEqual([1000]);

  const silent = await open(await serving((socket) => socket.pause()));
  silent.destroy();
  await once(silent, 'close');
});

test.each([
  [403, '{"ErrorCode":"AccessDeniedException","Message":"planted-secret"}', 'terminal', 'AccessDenied'],
  [403, 'no json', 'terminal', 'AccessDenied'],
  [400, '{"ErrorCode":"InvalidParameter","Message":"planted-secret"}', 'transient', 'Unreachable'],
  [403, '{"ErrorCode":"SignatureDoesNotMatch","Message":"planted-secret"}', 'terminal', 'AuthenticationFailed'],
  [403, '{"ErrorCode":"ExpiredTokenException"}', 'transient', 'AuthenticationFailed'],
  [400, '{"ErrorCode":"TunnelQuotaExceeded"}', 'waiting', 'EndpointBusy'],
  [429, '', 'waiting', 'EndpointBusy'],
  [503, '', 'waiting', 'EndpointBusy'],
  [500, '', 'transient', 'Unreachable'],
  [301, '', 'transient', 'Unreachable'],
])('a refusal with %i %s is %s %s', async (status, body, errorClass, reason) => {
  const error = await failure(open(await refusing(status, body)));
  expect(error).toMatchObject({
    class: errorClass,
    reason,
    message: expect.stringContaining(`HTTP ${status}`) as string,
    cause: { message: 'request req-7' },
  });
});

test('gives up an endpoint that does not answer, and hears of being called off', async () => {
  const silent = createTcpServer();
  silent.listen(0, '127.0.0.1');
  await once(silent, 'listening');
  onTestFinished(() => void silent.close());
  const url = `ws://127.0.0.1:${(silent.address() as AddressInfo).port}/openTunnel?${SECRET}`;
  const clock = new FakeClock();
  const waiting = failure(open(url, clock));
  await once(silent, 'connection');
  await clock.advance(10_000);
  expect(await waiting).toMatchObject({
    class: 'transient',
    reason: 'Unreachable',
    message: expect.stringContaining('within 10000 ms') as string,
  });
  const controller = new AbortController();
  const opening = failure(open(url, clock, controller.signal));
  controller.abort();
  expect(await opening).toMatchObject({ class: 'aborted' });
  expect(clock.pendingTimers).toBe(0);
});

test('says which code a connection failed with', async () => {
  expect(await failure(open(`ws://127.0.0.1:1/openTunnel?${SECRET}`))).toMatchObject({
    reason: 'Unreachable',
    message: expect.stringContaining('ECONNREFUSED') as string,
  });
});

test('shows nothing of an address that is none', async () => {
  expect(await failure(open(`wss://eice 1/openTunnel?${SECRET}`))).toMatchObject({ reason: 'Unreachable' });
});

test('says why it was closed also to whoever writes into it in that moment', async () => {
  const http = createServer();
  let end = (): void => undefined;
  const agreed = new Promise<void>((resolve) => {
    http.on('upgrade', ({ headers }, socket) => {
      const key = `${headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`;
      const accept = createHash('sha1').update(key).digest('base64');
      socket.write(
        `HTTP/1.1 101 Yes\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
      );
      const reason = Buffer.from('Cannot reach the host');
      socket.write(Buffer.concat([Buffer.of(0x88, reason.length + 2, 4500 >> 8, 4500 & 0xff), reason]));
      // Its own closing message: from now on it sends nothing any more, and waits for the connection to end.
      socket.once('data', () => resolve());
      end = () => void socket.end();
    });
  });
  const stream = await open(await listening(http));
  await agreed;
  const closed = new Promise((resolve) => stream.once('close', resolve));
  stream.write('SSH-2.0-plugset');
  setImmediate(end);
  await closed;
  expect(stream.errored).toMatchObject({ reason: 'Unreachable', message: expect.stringContaining('4500') });
});
