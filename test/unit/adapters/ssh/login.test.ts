import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { promisify } from 'node:util';

import { expect, it, onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';
import { endpointOf } from '../../../../src/adapters/ssh/endpoint-of.ts';
import type { Trust } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { loginError } from '../../../../src/adapters/ssh/login.ts';
import { SshSession } from '../../../../src/adapters/ssh/session.ts';
import type { SshCredential, SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;
const endpoint = { description: 'host ubuntu@a', user: 'ubuntu' } as SshEndpoint;

it('names the key that a host does not take, or the agent that has none for it', () => {
  const seen = (credential: SshCredential, level: string): unknown =>
    loginError({ endpoint, credential }, Object.assign(new Error('no'), { level }));
  const file = { kind: 'key', origin: '/etc/plugset/id', privateKey: '' } as const;
  const agent = { kind: 'agent', socket: '/run/agent' } as const;
  const reason = 'AuthenticationFailed';
  const key = expect.stringMatching(/^host ubuntu@a does not let ubuntu in with the key of \/etc\/plugset\/id: /);
  const none = expect.stringMatching(
    /^host ubuntu@a does not let ubuntu in with any key that the agent at \/run\/agent/,
  );
  const gone = expect.stringMatching(/^the agent at \/run\/agent gave no key to log in to host ubuntu@a with/);
  expect(seen(file, 'client-authentication')).toMatchObject({ reason, message: key });
  expect(seen(agent, 'client-authentication')).toMatchObject({ reason, message: none });
  expect(seen(agent, 'agent')).toMatchObject({ reason, message: gone });
});

it('says of what is no SSH server that it is none', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  onTestFinished(() => void server.close());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stream = connect((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => void stream.destroy());
  await once(stream, 'connect');
  const credential = { kind: 'key', origin: 'the test', privateKey: createEphemeralKey().privateKey } as const;
  const trust = { expected: [], isVerified: false, accepts: () => true } as unknown as Trust;
  await expect(SshSession.open({ endpoint, stream, credential, trust }, new FakeClock(), SIGNAL)).rejects.toMatchObject(
    {
      reason: 'Unreachable',
      message: expect.stringContaining('what answers there hung up, or is no SSH server'),
    },
  );
});

it('takes no public key for a private one', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'plugset-login-'));
  onTestFinished(() => rm(dir, { recursive: true }));
  const file = join(dir, 'id');
  await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  const credentialOf = (keyFile: string): Promise<SshCredential> => {
    const allowed = { hosts: ['a'], firstContact: 'strict', keyFile } as const;
    return endpointOf({ host: 'a', port: 22, user: 'ubuntu' }, allowed).credential(SIGNAL);
  };
  expect(await credentialOf(file)).toMatchObject({ kind: 'key' });
  await expect(credentialOf(`${file}.pub`)).rejects.toMatchObject({
    reason: 'AuthenticationFailed',
    message: expect.stringContaining('holds a public key'),
  });
});
