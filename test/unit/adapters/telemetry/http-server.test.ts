import { EventEmitter, once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';

import { afterEach, describe, expect, test } from 'vitest';

import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { TelemetryServer, type TelemetryServerOptions } from '../../../../src/adapters/telemetry/http-server.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const running: TelemetryServer[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.close()));
});

async function start(options: Partial<TelemetryServerOptions> = {}) {
  const logger = new RecordingLogger();
  const server = new TelemetryServer({
    port: 0,
    metrics: async () => ({ contentType: 'text/plain; version=0.0.4', body: 'up 1\n' }),
    liveness: {},
    readiness: {},
    clock: new SystemClock(),
    logger,
    ...options,
  });
  const address = await server.start();
  running.push(server);
  return { server, logger, address, url: `http://${address.host}:${address.port}` };
}

async function get(url: string, method = 'GET'): Promise<{ status: number; body: string; headers: Headers }> {
  const response = await fetch(url, { method });
  return { status: response.status, body: await response.text(), headers: response.headers };
}

describe('TelemetryServer', () => {
  test('listens on loopback unless told otherwise', async () => {
    expect((await start()).address.host).toBe('127.0.0.1');
    expect((await start({ host: '0.0.0.0' })).address.host).toBe('0.0.0.0');
  });

  test('/metrics', async () => {
    const { url } = await start();
    const { status, body, headers } = await get(`${url}/metrics`);
    expect([status, body, headers.get('content-type')]).toEqual([200, 'up 1\n', 'text/plain; version=0.0.4']);
  });

  test('healthy: one word, or every check with ?verbose', async () => {
    const { url } = await start({ liveness: { loops: () => undefined, 'event-loop': () => undefined } });
    expect(await get(`${url}/livez`)).toMatchObject({ status: 200, body: 'ok' });
    expect(await get(`${url}/livez?verbose`)).toMatchObject({
      status: 200,
      body: '[+]loops ok\n[+]event-loop ok\nlivez check passed\n',
    });
  });

  test('healthy, but for something: it is named with ?verbose', async () => {
    const { url } = await start({ readiness: { store: () => undefined }, notes: () => ['namespace b cannot be read'] });
    expect(await get(`${url}/readyz`)).toMatchObject({ status: 200, body: 'ok' });
    expect(await get(`${url}/readyz?verbose`)).toMatchObject({
      status: 200,
      body: '[+]store ok\n[!]namespace b cannot be read\nreadyz check passed\n',
    });
  });

  test('not healthy: 500 and every check, asked for or not', async () => {
    const { url } = await start({ readiness: { store: () => 'the first list has not come', http: () => undefined } });
    expect(await get(`${url}/readyz`)).toMatchObject({
      status: 500,
      body: '[-]store failed: the first list has not come\n[+]http ok\nreadyz check failed\n',
    });
    expect((await get(`${url}/livez`)).status).toBe(200);
  });

  test('checks are asked anew each time', async () => {
    let problem: string | undefined = 'starting';
    const { url } = await start({ readiness: { store: () => problem } });
    expect((await get(`${url}/readyz`)).status).toBe(500);
    problem = undefined;
    expect((await get(`${url}/readyz`)).status).toBe(200);
  });

  test('HEAD answers like GET, without a body; other methods and paths are refused', async () => {
    const { url } = await start();
    const head = await get(`${url}/metrics`, 'HEAD');
    expect([head.status, head.body, head.headers.get('content-length')]).toEqual([200, '', '5']);
    const post = await get(`${url}/livez`, 'POST');
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
    expect((await get(`${url}/`)).status).toBe(404);
    expect((await get(`${url}/metrics/x`)).status).toBe(404);
  });

  test('/wakeup tells of the next pass over a workspace, while this process knows', async () => {
    const { url } = await start({ wakeUp: (key) => (key === 'team-a/alice' ? { failures: 3 } : undefined) });
    const known = await get(`${url}/wakeup?workspace=team-a%2Falice`);
    expect([known.status, known.body, known.headers.get('content-type')]).toEqual([
      200,
      '{"failures":3}\n',
      'application/json',
    ]);
    expect((await get(`${url}/wakeup?workspace=bob`)).status).toBe(503);
    expect((await get(`${url}/wakeup`)).status).toBe(503);
  });

  test('/wakeup is answered to nobody but this machine', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
    const { address } = await start({ host: '0.0.0.0', wakeUp: () => ({ failures: 3 }) });
    expect((await get(`http://127.0.0.1:${address.port}/wakeup`)).status).toBe(200);
    // From an address that is not loopback, as another machine would come.
    if (own !== undefined) expect((await get(`http://${own}:${address.port}/wakeup`)).status).toBe(403);
  });

  test('a check or a metric that throws is a 500 without details, and a log line with them', async () => {
    const { url, logger } = await start({
      metrics: () => Promise.reject(new Error('internal detail')),
      liveness: {
        bad: () => {
          throw new Error('internal detail');
        },
      },
    });
    for (const path of ['/metrics', '/livez']) {
      const { status, body } = await get(url + path);
      expect(status).toBe(500);
      expect(body).not.toContain('internal detail');
    }
    expect(logger.at('error').map((line) => line.fields['path'])).toEqual(['/metrics', '/livez']);
  });

  test('a request that is no HTTP is refused and harms nobody', async () => {
    const { url, address } = await start();
    const socket = connect(address.port, address.host);
    socket.end('\0\0 nonsense\r\n\r\n');
    socket.resume();
    await once(socket, 'close');
    expect((await get(`${url}/livez`)).status).toBe(200);
  });

  test('a port that is taken is told in plain words', async () => {
    const { address } = await start();
    await expect(start({ port: address.port })).rejects.toThrow(
      `cannot serve metrics and health on 127.0.0.1 port ${address.port}: EADDRINUSE`,
    );
  });

  test('close ends idle and half-open connections', async () => {
    const clock = new FakeClock();
    const { server, address } = await start({ clock });
    const halfOpen = connect(address.port, address.host);
    halfOpen.on('error', () => undefined);
    await once(halfOpen, 'connect');
    halfOpen.write('GET /metrics HTTP/1.1\r\nHost: ');
    const closed = new Promise((resolve) => halfOpen.on('close', resolve));
    await Promise.all([server.close(), clock.advance(2_000)]);
    await server.close();
    await closed;
    expect(clock.pendingTimers).toBe(0);
    await expect(fetch(`http://${address.host}:${address.port}/livez`)).rejects.toThrow('fetch failed');
  });

  test('close lets an answer under way get out', async () => {
    const scrapes = new EventEmitter();
    const { server, address } = await start({
      metrics: async () => {
        const answered = once(scrapes, 'answer');
        scrapes.emit('asked');
        await answered;
        return { contentType: 'text/plain', body: 'late\n' };
      },
    });
    const asked = once(scrapes, 'asked');
    const request = httpRequest({ ...address, path: '/metrics', agent: false });
    request.end();
    const answered = once(request, 'response');
    await asked;
    const closing = server.close();
    scrapes.emit('answer');
    const [response] = (await answered) as [IncomingMessage];
    expect(await response.setEncoding('utf8').toArray()).toEqual(['late\n']);
    await closing;
  });
});
