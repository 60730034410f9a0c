import type { LookupAddress } from 'node:dns';
import { once, setMaxListeners } from 'node:events';
import { createSocket } from 'node:dgram';
import { createServer, type AddressInfo } from 'node:net';

import { expect, it, onTestFinished } from 'vitest';

import { HostNames, nameServers, type NameServers } from '../../../../src/adapters/ssh/host-names.ts';
import { TcpDialer } from '../../../../src/adapters/ssh/tcp-dialer.ts';
import { settle } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;
const FOUND: readonly LookupAddress[] = [{ address: '10.0.0.5', family: 4 }];

/** For names that begin with `dead` nobody answers, and the system does not come to an end with them. */
function servers(): NameServers & { readonly looking: string[] } {
  const looking: string[] = [];
  const isDead = (host: string): boolean => host.startsWith('dead');
  return {
    looking,
    answer: async (host) => !isDead(host),
    addresses: (host) => {
      looking.push(host);
      return isDead(host) ? new Promise(() => undefined) : Promise.resolve(FOUND);
    },
  };
}

it('finds a host however many others nobody answers for', async () => {
  const all = servers();
  const names = new HostNames(all);
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  const dead = Array.from({ length: 1_000 }, (_, index) => names.addressesOf(`dead-${index}.example.com`, stop.signal));
  const ends = Promise.allSettled(dead);
  await settle();
  expect(await names.addressesOf('alive.example.com', SIGNAL)).toBe(FOUND);
  expect(all.looking).toEqual(['dead-0.example.com', 'alive.example.com']);
  stop.abort(new Error('called off'));
  expect((await ends).every(({ status }) => status === 'rejected')).toBe(true);
});

it.each([
  ['both families', [1, 28], true],
  ['IPv4 alone', [1], false],
  ['IPv6 alone', [28], false],
])('waits for no thread where a name server answers for %s: %j', async (_which, types, isAnswered) => {
  const server = createSocket('udp4');
  onTestFinished(() => void server.close());
  server.on('message', (question, { port, address }) => {
    // The last four bytes but those of an extension: type and class of what is asked.
    const end = question.indexOf(0, 12) + 1;
    if (!types.includes(question.readUInt16BE(end))) return;
    const answer = Buffer.from(question.subarray(0, end + 4));
    answer.writeUInt16BE(0x8183, 2);
    answer.writeUInt16BE(0, 10);
    server.send(answer, port, address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const asked = nameServers([`127.0.0.1:${server.address().port}`]);
  expect(await asked.answer('ws.example.com', SIGNAL)).toBe(isAnswered);
});

it('asks nobody about an address', async () => {
  const all = servers();
  expect(await new HostNames(all).addressesOf('::1', SIGNAL)).toEqual([{ address: '::1', family: 6 }]);
  expect(all.looking).toEqual([]);
});

it('leads to a host that only the file of hosts has', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const socket = await new TcpDialer('localhost', (server.address() as AddressInfo).port).dial(SIGNAL);
  expect(socket.remoteAddress).toContain('127.0.0.1');
  socket.destroy();
});
