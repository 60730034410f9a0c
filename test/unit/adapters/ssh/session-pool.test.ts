import type { Duplex } from 'node:stream';

import { expect, it, onTestFinished } from 'vitest';

import { createEphemeralKey } from '../../../../src/adapters/aws/ephemeral-key.ts';
import { HostKeyPins } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { SessionPool } from '../../../../src/adapters/ssh/session-pool.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { connectedTo, hostileSshd, obliging } from '../../../support/hostile-sshd.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';

const SIGNAL = new AbortController().signal;

/** A host, and what was dialled to it. */
async function pooled() {
  const { port } = await hostileSshd(obliging);
  const clock = new FakeClock();
  const state = new MemoryControllerState();
  const pool = new SessionPool(clock, new HostKeyPins(() => state, clock));
  onTestFinished(() => pool.close());
  const dialled: Duplex[] = [];
  const endpoint: SshEndpoint = {
    id: 'test',
    description: 'the host of the test',
    user: 'ubuntu',
    maxAgeMs: 60_000,
    dialer: {
      dial: async () => {
        const stream = await connectedTo(port);
        dialled.push(stream);
        return stream;
      },
    },
    credential: async () => ({ kind: 'key', origin: 'the test', privateKey: createEphemeralKey().privateKey }),
    hostKeys: {
      name: 'test',
      policy: 'tofu',
      voucher: 'nobody',
      ask: 'always',
      vouchedFor: async () => [],
      firstContact: 'tofu',
    },
  };
  return { pool, clock, endpoint, dialled };
}

it('makes another connection beside one without room, unless nobody else is on that', async () => {
  const { pool, endpoint, dialled } = await pooled();
  const lasting = await pool.lease(endpoint, 'commands', SIGNAL);
  const refused = await pool.lease(endpoint, 'commands', SIGNAL);
  refused.release();
  refused.retire();
  const next = await pool.lease(endpoint, 'commands', SIGNAL);
  expect(next.session).not.toBe(lasting.session);
  expect(dialled).toHaveLength(2);

  next.release();
  next.retire();
  const same = await pool.lease(endpoint, 'commands', SIGNAL);
  expect(same.session).toBe(next.session);
  same.retire();
  expect((await pool.lease(endpoint, 'commands', SIGNAL)).session).toBe(next.session);

  lasting.release();
  expect(lasting.session.isUsable).toBe(false);
});

it('gives up that connection of a host that was meant, and no other', async () => {
  const { pool, clock, endpoint, dialled } = await pooled();
  const old = await pool.lease(endpoint, 'commands', SIGNAL);
  await clock.advance(61_000);
  const young = await pool.lease(endpoint, 'commands', SIGNAL);
  young.release();
  expect(dialled).toHaveLength(2);

  pool.release('test', dialled[0]);
  expect([old.session.isUsable, young.session.isUsable]).toEqual([true, true]);
  old.release();
  expect([old.session.isUsable, young.session.isUsable]).toEqual([false, true]);
  pool.release('test', dialled[1]);
  expect(young.session.isUsable).toBe(false);
});
