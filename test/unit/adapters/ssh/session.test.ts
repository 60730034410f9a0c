import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';

import ssh2, { type Connection } from 'ssh2';
import { expect, it, onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';
import type { Trust } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { SshSession } from '../../../../src/adapters/ssh/session.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;

/** Logged in to a server of the kind that no sshd is. */
async function sessionWith(packetBytes: number): Promise<SshSession> {
  const server = new ssh2.Server({ hostKeys: [createEphemeralKey().privateKey] }, (client) => {
    letIn(client);
    takeAtMost(client, packetBytes);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stream = connect((server.address() as AddressInfo).port, '127.0.0.1');
  await once(stream, 'connect');
  onTestFinished(() => {
    stream.destroy();
    server.close();
  });
  const endpoint = { description: 'the host', user: 'ubuntu' } as SshEndpoint;
  const credential = { kind: 'key', origin: 'the test', privateKey: createEphemeralKey().privateKey } as const;
  const trust = { expected: [], isVerified: false, accepts: () => true } as unknown as Trust;
  return SshSession.open({ endpoint, stream, credential, trust }, new FakeClock(), SIGNAL);
}

function letIn(client: Connection): void {
  client.on('error', () => undefined);
  client.on('authentication', (attempt) => attempt.accept());
  client.on('session', (accept) => void accept().on('exec', (start) => void start()));
  client.on('openssh.streamlocal' as 'session', (accept) => void accept());
}

type Confirm = (remote: number, local: number, window: number, packetBytes: number) => void;

function takeAtMost(client: Connection, packetBytes: number): void {
  const { _protocol: protocol } = client as unknown as { _protocol: { channelOpenConfirm: Confirm } };
  const confirm = protocol.channelOpenConfirm.bind(protocol);
  protocol.channelOpenConfirm = (remote, local, window) => confirm(remote, local, window, packetBytes);
}

it.each([0, 1])('writes to no channel of a host that takes %i bytes at once', async (bytes) => {
  const commands = await sessionWith(bytes);
  expect(await commands.start('true', SIGNAL)).toMatchObject({ kind: 'lost' });
  expect(commands.isUsable).toBe(false);

  const streams = await sessionWith(bytes);
  await expect(streams.openSocket('/run/a.sock', SIGNAL)).rejects.toThrow('at once');
  expect(streams.isUsable).toBe(false);
});

it('writes to the channels of all others', async () => {
  const session = await sessionWith(32 * 1024);
  expect(await session.start('true', SIGNAL)).toMatchObject({ kind: 'running' });
  await session.openSocket('/run/a.sock', SIGNAL);
  session.fault();
});
