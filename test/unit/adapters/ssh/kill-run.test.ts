import { expect, it } from 'vitest';

import { killRun } from '../../../../src/adapters/ssh/kill-run.ts';
import type { SessionPool } from '../../../../src/adapters/ssh/session-pool.ts';
import type { Started } from '../../../../src/adapters/ssh/session.ts';
import { Deadline } from '../../../../src/ports/deadline.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;

/** Tries to kill a run on connections that take no command so, for a while; answers what was done to them. */
async function killedOn(started: Started['kind']): Promise<{ readonly faults: number; readonly retired: number }> {
  const done = { faults: 0, retired: 0 };
  const session = {
    start: async () => ({ kind: started, error: new Error('no') }),
    fault: () => (done.faults += 1),
  };
  const pool = {
    lease: async () => ({
      session,
      isReused: true,
      release: () => undefined,
      retire: () => (done.retired += 1),
    }),
  } as unknown as SessionPool;
  const clock = new FakeClock();
  const deadline = new Deadline(clock, 250, SIGNAL);
  const run = { endpoint: { id: 'one' } as SshEndpoint, prefix: [], mark: 'mark', closed: Promise.resolve() };
  const killing = killRun(pool, clock, run, deadline);
  await clock.advance(250);
  expect(await killing).toBe(false);
  return done;
}

it('takes another connection where there is no room, and leaves the full one to those who are on it', async () => {
  expect(await killedOn('unsent')).toEqual({ faults: 0, retired: 1 });
});

it('gives up a connection that does not answer', async () => {
  const { faults, retired } = await killedOn('lost');
  expect(faults).toBeGreaterThan(0);
  expect(retired).toBe(0);
});
