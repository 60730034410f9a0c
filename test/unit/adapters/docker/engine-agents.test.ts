import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';

import { expect, it, onTestFinished } from 'vitest';

import { DialledAgent } from '../../../../src/adapters/docker/engine-agents.ts';
import { settle } from '../../../support/fake-clock.ts';

it('asks over one stream again and again, and leaves nothing behind on it', async () => {
  const server = createServer((_request, response) => void response.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const streams: Duplex[] = [];
  const agent = new DialledAgent({
    dial: async () => {
      const stream = connect((server.address() as AddressInfo).port, '127.0.0.1');
      streams.push(stream);
      return stream;
    },
  });
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
