import { beforeEach, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import type { KubeConnection, ReadConnection } from '../../../../src/adapters/kube/kube-connection.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const never = new AbortController().signal;

let clock: FakeClock;
let opened: number;
let reads: number;
/** What is read next. */
let token: string;

beforeEach(() => {
  clock = new FakeClock();
  opened = 0;
  reads = 0;
  token = 't1';
});

function connection(): KubeConnection {
  const headers = { Authorization: `Bearer ${token}` };
  return { server: new URL('https://k8s:6443'), tls: { ca: Buffer.from('CA') }, headers, namespace: 'team-a' };
}

function newAccess(read: ReadConnection = () => Promise.resolve(connection())): KubeAccess {
  const open = (): Promise<ReadConnection> => {
    opened += 1;
    return Promise.resolve((signal) => {
      reads += 1;
      return read(signal);
    });
  };
  return new KubeAccess({ open, clock });
}

describe('access', () => {
  it('is read once for all who ask at the same time, and for ten seconds', async () => {
    const access = newAccess();
    const first = await access.current(never);
    const others = await Promise.all([access.current(never), access.current(never)]);
    for (const other of others) expect(other).toBe(first);
    await clock.advance(9_999);
    expect(await access.current(never)).toBe(first);
    expect([opened, reads]).toEqual([1, 1]);
  });

  it('is the same object for as long as it says the same', async () => {
    const access = newAccess();
    const first = await access.current(never);
    await clock.advance(10_000);
    expect(await access.current(never)).toBe(first);
    await clock.advance(10_000);
    token = 't2';
    expect((await access.current(never)).headers).toEqual({ Authorization: 'Bearer t2' });
    expect([opened, reads]).toEqual([1, 3]);
  });

  it('that was refused is opened anew, by the first of those who were refused', async () => {
    const access = newAccess();
    const first = await access.current(never);
    token = 't2';
    expect([access.renew(first), access.renew(first)]).toEqual([true, true]);
    const second = await access.current(never);
    expect(second.headers).toEqual({ Authorization: 'Bearer t2' });
    // Late: it was refused with the former one, and another one is there.
    expect(access.renew(first)).toBe(true);
    expect(await access.current(never)).toBe(second);
    expect(opened).toBe(2);
  });

  it('that was opened just now is not opened again', async () => {
    const access = newAccess();
    access.renew(await access.current(never));
    const second = await access.current(never);
    expect(access.renew(second)).toBe(false);
    await clock.advance(10_000);
    expect(access.renew(await access.current(never))).toBe(true);
  });

  it('that failed is read again by the next one who asks', async () => {
    let fails = true;
    const access = newAccess(() => (fails ? Promise.reject(new Error('no plug-in')) : Promise.resolve(connection())));
    await expect(access.current(never)).rejects.toMatchObject({ class: 'transient', reason: 'AuthenticationFailed' });
    fails = false;
    expect(await access.current(never)).toMatchObject({ namespace: 'team-a' });
  });

  it('is not waited for by who gave up, nor for ever by anybody', async () => {
    let hangs = true;
    const told: AbortSignal[] = [];
    const access = newAccess((signal) => {
      told.push(signal);
      return hangs ? new Promise(() => undefined) : Promise.resolve(connection());
    });
    const patient = access.current(never).catch((error: unknown) => error);
    const gaveUp = new AbortController();
    const hasty = access.current(gaveUp.signal).catch((error: unknown) => error);
    gaveUp.abort(new Error('enough'));
    expect(await hasty).toMatchObject({ message: 'enough' });
    await clock.advance(60_000);
    expect(await patient).toMatchObject({ reason: 'AuthenticationFailed' });
    hangs = false;
    expect(await access.current(never)).toMatchObject({ namespace: 'team-a' });
    // Who hung was told to end before anybody else was asked.
    expect(told.map(({ aborted }) => aborted)).toEqual([true, false]);
    expect(clock.pendingTimers).toBe(0);
  });
});
