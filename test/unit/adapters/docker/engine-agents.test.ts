import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';

import { expect, it, onTestFinished } from 'vitest';

import { DialledAgent, NotConnected } from '../../../../src/adapters/docker/engine-agents.ts';
import { whenAborted } from '../../../../src/ports/abort.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';

it('asks over one stream again and again, and leaves nothing behind on it', async () => {
  const server = createServer((_request, response) => void response.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const streams: Duplex[] = [];
  const dialer = {
    dial: async () => {
      const stream = connect((server.address() as AddressInfo).port, '127.0.0.1');
      streams.push(stream);
      return stream;
    },
  };
  const agent = new DialledAgent(dialer, new FakeClock());
  onTestFinished(() => agent.destroy());
  const listeners: (number | undefined)[] = [];
  for (let round = 0; round < 4; round += 1) {
    const asked = request({ agent, host: 'docker' }).end();
    const [answer] = (await once(asked, 'response')) as [IncomingMessage];
    expect(await text(answer)).toBe('hello');
    await settle();
    listeners.push(streams[0]?.listenerCount('error'));
  }
  expect(streams).toHaveLength(1);
  expect(new Set(listeners).size).toBe(1);
});

it('dials nobody for ever', async () => {
  const clock = new FakeClock();
  const dial = async (signal: AbortSignal): Promise<Duplex> => {
    await whenAborted(signal);
    throw signal.reason as Error;
  };
  const agent = new DialledAgent({ dial }, clock);
  onTestFinished(() => agent.destroy());
  const asked = request({ agent, host: 'docker' }).end();
  const failed = once(asked, 'error');
  await clock.advance(60_000);
  expect((await failed)[0]).toBeInstanceOf(NotConnected);
  expect(clock.pendingTimers).toBe(0);
});
