import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocketServer, type WebSocket } from 'ws';

import { execute, type ExecEnd } from '../../../../src/adapters/kube/exec.ts';
import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { Deadline } from '../../../../src/ports/deadline.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { eventually } from '../../../support/eventually.ts';

const PLACE = { namespace: 'team-a', pod: 'agent', container: 'main' };
const MARK = 'mark-of-the-run';

/** An API server of which each test says what it answers to an exec; a real one is behind test/contract/pod-*.test.ts. */
describe('an exec', () => {
  let server: Server;
  let sockets: WebSocketServer;
  let client: KubeClient;
  let clock: FakeClock;
  let protocols: readonly string[];
  let answer: (socket: WebSocket, request: IncomingMessage) => void;
  let refusal: { readonly status: number; readonly body: string } | undefined;

  beforeEach(async () => {
    protocols = ['v5.channel.k8s.io'];
    refusal = undefined;
    answer = () => undefined;
    server = createServer((_request, response) => response.writeHead(404).end());
    sockets = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => protocols.find((one) => offered.has(one)) ?? false,
    });
    server.on('upgrade', (request, socket, head) => {
      if (refusal !== undefined) {
        const { status, body } = refusal;
        socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
        return;
      }
      sockets.handleUpgrade(request, socket, head, (opened) => answer(opened, request));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    clock = new FakeClock();
    const connection = { server: new URL(`http://127.0.0.1:${port}`), tls: {}, headers: {}, namespace: undefined };
    client = new KubeClient({ access: new KubeAccess({ open: async () => async () => connection, clock }), clock });
  });
  afterEach(async () => {
    client.close();
    for (const socket of sockets.clients) socket.terminate();
    sockets.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const run = (stdin?: AsyncIterable<Uint8Array>, argv: readonly string[] = ['true']): Promise<ExecEnd> => {
    const deadline = new Deadline(clock, 300_000, new AbortController().signal);
    return execute(client, PLACE, argv, { as: 'observer', mark: MARK, stdin }, deadline).finally(() =>
      deadline.clear(),
    );
  };
  const say = (socket: WebSocket, channel: number, text: string): void =>
    socket.send(Buffer.concat([Buffer.from([channel]), Buffer.from(text)]));
  /** Lets the command begin, and calls `then` with the word that begins and ends it. */
  const begin = (socket: WebSocket, then: (word: string) => void): void => {
    let heard = '';
    socket.on('message', (data: Buffer) => {
      if (data[0] !== 0) return;
      const had = heard.includes('\n');
      heard += data.subarray(1).toString();
      if (!had && heard.includes('\n')) then(heard.slice(0, heard.indexOf('\n')));
    });
    say(socket, 1, `${MARK} begins\n`);
  };

  it('asks for what it needs, and puts nothing long into the URL', async () => {
    const url = new Promise<URL>((resolve) => {
      answer = (socket, request) => {
        resolve(new URL(request.url ?? '', 'http://x'));
        socket.close();
      };
    });
    const script = 'a script '.repeat(1000);
    await run(undefined, ['sh', '-c', script, 'x y']);
    const { pathname, searchParams, href } = await url;
    expect(pathname).toBe('/api/v1/namespaces/team-a/pods/agent/exec');
    expect(searchParams.get('container')).toBe('main');
    expect(searchParams.getAll('command').slice(-4)).toEqual(['=sh', '=-c', '@9000', '=x y']);
    expect(href.length).toBeLessThan(6_000);
  });

  it('ends with its word on both outputs, whatever follows, and without waiting for the connection', async () => {
    answer = (socket) =>
      begin(socket, (word) => {
        say(socket, 2, `err${word} 7.`);
        say(socket, 1, 'out');
        say(socket, 1, `${word}more`);
      });
    const end = await run();
    expect(end).toMatchObject({ kind: 'exited', code: 7, stdout: Buffer.from('out'), stderr: Buffer.from('err') });
  });

  it('leaves no connection behind where it is refused', async () => {
    const ended = new Promise<void>((resolve) => {
      server.removeAllListeners('upgrade').on('upgrade', (_request, socket) => {
        // It would keep the connection for whatever is asked next.
        socket.once('end', () => socket.end(resolve)).once('error', () => resolve());
        socket.resume().write('HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n{}');
      });
    });
    expect(await run()).toMatchObject({ kind: 'unsent', error: { reason: 'AccessDenied' } });
    await ended;
  });

  it('was not started when the connection ends before it was let begin', async () => {
    answer = (socket) => socket.terminate();
    expect(await run()).toMatchObject({ kind: 'unsent', ours: false });
    answer = (socket) => {
      say(socket, 1, 'something else\n');
    };
    expect(await run()).toMatchObject({ kind: 'unsent', ours: false });
  });

  it.each([1000, 1006])('may have run when the connection ends after that: %i', async (code) => {
    answer = (socket) => begin(socket, () => (code === 1000 ? socket.close(1000) : socket.terminate()));
    expect(await run()).toMatchObject({ kind: 'lost', ours: false });
  });

  it('has not ended with the status of what it ran in, nor with half of its word', async () => {
    answer = (socket) =>
      begin(socket, (word) => {
        say(socket, 1, `out${word}`);
        say(socket, 2, `${word} 12`);
        say(socket, 3, JSON.stringify({ status: 'Success' }));
        socket.close(1000);
      });
    expect(await run()).toMatchObject({ kind: 'lost', ours: false });
  });

  it('tells who it would be, where that is nobody it was asked to be', async () => {
    answer = (socket) => say(socket, 1, `${MARK} refused 1000:1000\n`);
    expect(await run()).toEqual({ kind: 'unable', who: '1000:1000' });
  });

  it.each([
    ['no end', 'x'.repeat(4096)],
    ['a name for who it would be', `${MARK} refused ${'x'.repeat(64)}\n`],
    ['more than its word', `${MARK} begins now\n`],
  ])('takes %s for no answer of its own', async (_, said) => {
    answer = (socket) => say(socket, 1, said);
    const end = await run();
    expect(end).toMatchObject({ kind: 'unsent', ours: false });
    expect(JSON.stringify(end)).not.toContain('xxx');
  });

  it.each(['x'.repeat(100), 'seven.', '1e2.', '-1.'])(
    'has not ended with %s in the place of its exit code',
    async (said) => {
      answer = (socket) => begin(socket, (word) => say(socket, 2, `${word} ${said}`));
      expect(await run()).toMatchObject({ kind: 'lost', ours: false });
    },
  );

  it('was not started where there is no shell', async () => {
    const status = JSON.stringify({ status: 'Failure', reason: 'InternalError' });
    answer = (socket) => say(socket, 3, status);
    expect(await run()).toEqual({ kind: 'unstarted', status });
  });

  it('sends stdin in frames, and its end', async () => {
    const frames: Buffer[] = [];
    answer = (socket) => {
      socket.on('message', (data: Buffer) => {
        frames.push(data);
        if (data[0] === 255) socket.terminate();
      });
      say(socket, 1, `${MARK} begins\n`);
    };
    async function* stdin(): AsyncGenerator<Buffer> {
      yield Buffer.alloc(200_000, 'x');
    }
    await run(stdin());
    expect(frames.at(-1)).toEqual(Buffer.from([255, 0]));
    expect(Math.max(...frames.map(({ length }) => length))).toBeLessThanOrEqual(64 * 1024 + 1);
    const sent = Buffer.concat(frames.slice(0, -1).map((frame) => frame.subarray(1))).toString();
    expect(sent).toMatch(/^[0-9a-f]{32}\nx{200000}$/);
  });

  it('pings a silent peer, and gives up one that does not answer for a minute', async () => {
    const pings = new Promise<number>((resolve) => {
      let count = 0;
      answer = (socket) => {
        socket.on('ping', () => (count += 1) === 3 && resolve(count));
        // Deaf from here on: `ws` answers pings by itself, so that goes nowhere.
        socket.pong = () => undefined;
        begin(socket, () => undefined);
      };
    });
    const running = run();
    let end: ExecEnd | undefined;
    void running.then((ended) => (end = ended));
    await eventually(async () => {
      await clock.advance(5_000);
      if (end === undefined) throw new Error('it has not ended');
    });
    expect(end).toMatchObject({ kind: 'lost', ours: false });
    expect(await pings).toBe(3);
  });

  it.each([
    [403, { class: 'terminal', reason: 'AccessDenied' }],
    [404, { status: 404 }],
    [429, { class: 'waiting', reason: 'Throttled' }],
    [500, { reason: 'Unreachable' }],
  ])('that is refused with %i says what the API server said', async (status, expected) => {
    refusal = { status, body: JSON.stringify({ kind: 'Status', reason: 'Because', message: 'so it is' }) };
    const end = await run();
    expect(end).toMatchObject({ kind: 'unsent', ours: false, error: expected });
    expect((end as { readonly error: Error }).error.message).toContain('so it is');
  });

  it('needs an API server that can end stdin', async () => {
    protocols = ['v4.channel.k8s.io'];
    expect(await run()).toMatchObject({
      kind: 'unsent',
      error: { class: 'terminal', message: expect.stringContaining('Kubernetes 1.30 or newer') as string },
    });
  });
});
