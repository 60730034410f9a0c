import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DockerEngine } from '../../../../src/adapters/docker/engine.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';

const TIMEOUT_MS = 10_000;

/** What a container of this name gets for an answer. */
const ANSWERS: Readonly<Record<string, RequestListener>> = {
  there: (_, response) => response.end('{"Id": "c1"}'),
  gone: (_, response) => response.writeHead(404).end('{"message": "no such container"}'),
  paused: (_, response) => response.writeHead(409).end('{"message": "is paused"}'),
  broken: (_, response) => response.writeHead(500).end('{"message": "out of inodes"}'),
  cut: (_, response) => {
    response.writeHead(200, { 'content-length': 100 }).write('{"Id":');
    response.socket?.end();
  },
  silent: () => undefined,
};

describe('requests to an engine are counted', () => {
  let server: Server;
  let address: string;
  beforeEach(async () => {
    server = createServer((request, response) => {
      const name = /^\/containers\/(\w+)\/json/.exec(request.url ?? '')?.[1] ?? '';
      ANSWERS[name]?.(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  const inspect = async (engine: DockerEngine, name: string, signal = new AbortController().signal): Promise<void> => {
    const asked = engine.find('inspect', `inspect container ${name}`, signal, (docker, abortSignal) =>
      docker.getContainer(name).inspect({ abortSignal } as object),
    );
    await asked.catch(() => undefined);
  };

  it.each([
    ['there', 'ok'],
    ['gone', 'not_found'],
    ['paused', 'refused'],
    ['broken', 'error'],
  ])('%s: %s', async (name, outcome) => {
    const metrics = recordingMetrics();
    const engine = new DockerEngine({
      name: 'default',
      address,
      clock: new SystemClock(),
      requestTimeoutMs: TIMEOUT_MS,
      metrics,
    });
    await inspect(engine, name);
    expect(metrics.argsOf('engineAsked')).toEqual([['default', 'inspect', outcome, expect.any(Number)]]);
    engine.close();
  });

  it.each(['silent', 'cut'])('%s: unanswered, when the time is up', async (name) => {
    const metrics = recordingMetrics();
    const clock = new FakeClock();
    const engine = new DockerEngine({ name: 'default', address, clock, requestTimeoutMs: TIMEOUT_MS, metrics });
    const arrived = new Promise((resolve) => server.once('request', resolve));
    const asked = inspect(engine, name);
    await arrived;
    await clock.advance(TIMEOUT_MS);
    await asked;
    const [[, , outcome, seconds]] = metrics.argsOf('engineAsked') as [[string, string, string, number]];
    expect(outcome).toBe('unanswered');
    expect(seconds).toBeLessThanOrEqual(TIMEOUT_MS / 1000);
    engine.close();
  });

  it('silent, and nobody waits any more: called off', async () => {
    const metrics = recordingMetrics();
    const clock = new FakeClock();
    const engine = new DockerEngine({ name: 'default', address, clock, requestTimeoutMs: TIMEOUT_MS, metrics });
    const caller = new AbortController();
    const arrived = new Promise((resolve) => server.once('request', resolve));
    const asked = inspect(engine, 'silent', caller.signal);
    await arrived;
    caller.abort();
    await asked;
    expect(metrics.argsOf('engineAsked')).toEqual([['default', 'inspect', 'called_off', 0]]);
    engine.close();
  });

  it('an engine that is not there: unanswered at once', async () => {
    await new Promise((resolve) => server.close(resolve));
    const metrics = recordingMetrics();
    const clock = new SystemClock();
    const engine = new DockerEngine({ name: 'spare', address, clock, requestTimeoutMs: TIMEOUT_MS, metrics });
    await inspect(engine, 'there');
    expect(metrics.argsOf('engineAsked')).toEqual([['spare', 'inspect', 'unanswered', expect.any(Number)]]);
    engine.close();
  });
});
