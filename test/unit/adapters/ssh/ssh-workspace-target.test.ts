import { expect, it, onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';
import { PooledSshHosts } from '../../../../src/adapters/ssh/pooled-ssh-hosts.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { connectedTo, hostileSshd } from '../../../support/hostile-sshd.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';

const SIGNAL = new AbortController().signal;

it('goes on over another connection where sudo hangs and cannot be killed', async () => {
  // One for each connection that was asked.
  const questions: number[] = [];
  const { port } = await hostileSshd(({ connection }) => {
    let index: number | undefined;
    connection.on('session', (accept) => {
      accept().on('exec', (start, _reject, { command }) => {
        start();
        if (!command.includes('sudo')) return;
        index ??= questions.push(0) - 1;
        questions[index] = (questions[index] ?? 0) + 1;
      });
    });
  });
  const clock = new FakeClock();
  const state = new MemoryControllerState();
  const hosts = new PooledSshHosts({ state: () => state, clock });
  onTestFinished(() => hosts.close());
  const policy = { name: 'test', policy: 'tofu', voucher: 'nobody', ask: 'always', firstContact: 'tofu' } as const;
  const endpoint: SshEndpoint = {
    id: 'test',
    description: 'the host of the test',
    user: 'ubuntu',
    dialer: { dial: () => connectedTo(port) },
    credential: async () => ({ kind: 'key', origin: 'the test', privateKey: createEphemeralKey().privateKey }),
    hostKeys: { ...policy, vouchedFor: async () => [] },
  };
  const target = await hosts.locate(endpoint, undefined, SIGNAL);
  for (const asked of [[1], [1, 1]]) {
    const running = target.run(['true'], { as: 'observer', deadlineMs: 1_000, signal: SIGNAL });
    const end = running.catch((error: unknown) => error);
    await eventually(() => expect(questions).toEqual(asked));
    // The deadline, and after it the time that is had for killing.
    await clock.advance(6_000);
    expect(await end).toMatchObject({ reason: 'ExecTimeout' });
  }
});
