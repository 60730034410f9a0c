import type { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';

import { expect, it } from 'vitest';

import { CommandDialer } from '../../../../src/adapters/ssh/command-dialer.ts';
import type { SessionPool } from '../../../../src/adapters/ssh/session-pool.ts';
import type { Started } from '../../../../src/adapters/ssh/session.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { onAbort } from '../../../../src/ports/abort.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;

/** A pool of connections that answer as told, each in its turn, and the last for ever. */
function dialerOn(answers: readonly Started['kind'][] | 'never') {
  const clock = new FakeClock();
  const done = { starts: 0, retired: 0, released: 0 };
  const start = (_command: string, signal: AbortSignal): Promise<unknown> => {
    const kind = answers === 'never' ? 'never' : answers[Math.min(done.starts, answers.length - 1)];
    done.starts += 1;
    if (kind === 'running') return Promise.resolve({ kind, channel: channel() });
    const error = new Error('no');
    if (kind !== 'never') return Promise.resolve({ kind, error });
    return new Promise((resolve) => void onAbort(signal, () => resolve({ kind: 'unsent', error })));
  };
  const session = { isUsable: true, start, gone: SIGNAL, room: async () => undefined };
  const lease = async () => ({
    session,
    isReused: true,
    release: () => (done.released += 1),
    retire: () => (done.retired += 1),
  });
  const endpoint = { id: 'one', description: 'the host' } as SshEndpoint;
  const pool = { lease } as unknown as SessionPool;
  const command = 'docker system dial-stdio';
  return { dialer: new CommandDialer({ endpoint, command, preface: 'no socket' }, { pool, clock }), clock, done };
}

function channel(): EventEmitter {
  return Object.assign(new PassThrough(), { stderr: new PassThrough(), close: () => undefined });
}

it('waits for room, and after some refusals leaves a full connection to those who are on it', async () => {
  const { dialer, clock, done } = dialerOn([...Array<'unsent'>(21).fill('unsent'), 'running']);
  const dialling = dialer.dial(SIGNAL);
  await clock.advance(2_000);
  (await dialling).destroy();
  expect(done).toEqual({ starts: 22, retired: 1, released: 21 });
});

it('gives up a host that never has room', async () => {
  const { dialer, clock } = dialerOn(['unsent']);
  const dialling = dialer.dial(SIGNAL).catch((error: unknown) => error);
  await clock.advance(10_000);
  expect(await dialling).toMatchObject({ class: 'transient', reason: 'Unreachable' });
});

it('asks no other connection when a host does not answer', async () => {
  const { dialer, clock, done } = dialerOn('never');
  const dialling = dialer.dial(SIGNAL).catch((error: unknown) => error);
  await clock.advance(10_000);
  expect(await dialling).toMatchObject({ class: 'transient', reason: 'Unreachable' });
  expect(done).toMatchObject({ starts: 1, released: 1 });
});

it('asks no other connection when nobody can tell whether the command runs', async () => {
  const { dialer, clock, done } = dialerOn(['lost']);
  const dialling = dialer.dial(SIGNAL).catch((error: unknown) => error);
  await clock.advance(1_000);
  expect(await dialling).toMatchObject({ reason: 'Unreachable' });
  expect(done.starts).toBe(1);
});
