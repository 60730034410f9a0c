import { setMaxListeners } from 'node:events';

import { expect, test } from 'vitest';

import { TunnelSlots } from '../../../../src/adapters/aws/tunnel-slots.ts';
import { FakeClock, seededRandom, settle } from '../../../support/fake-clock.ts';

const never = new AbortController().signal;
setMaxListeners(0, never);

function slotsOf(limit: number): { slots: TunnelSlots<string>; called: string[]; clock: FakeClock } {
  const called: string[] = [];
  const clock = new FakeClock();
  return { slots: new TunnelSlots({ limit, clock, makeRoom: (holder: string) => called.push(holder) }), called, clock };
}

test('lets so many in per endpoint, the others in order of arrival', async () => {
  const { slots } = slotsOf(2);
  const inside: string[] = [];
  const leave = new Map<string, () => void>();
  const enter = async (endpoint: string, name: string): Promise<void> => {
    leave.set(name, (await slots.enter(endpoint, name, never)).leave);
    inside.push(name);
  };
  const entering = [enter('a', 'a1'), enter('a', 'a2'), enter('a', 'a3'), enter('a', 'a4'), enter('b', 'b1')];
  await settle();
  expect(inside).toEqual(['a1', 'a2', 'b1']);
  leave.get('a2')?.();
  leave.get('a2')?.();
  await settle();
  expect(inside).toEqual(['a1', 'a2', 'b1', 'a3']);
  leave.get('a1')?.();
  await Promise.all(entering);
  expect(inside.at(-1)).toBe('a4');
});

test('calls in the tunnel that was used longest ago, then the others', async () => {
  const { slots, called, clock } = slotsOf(3);
  const x = await slots.enter('a', 'x', never);
  await slots.enter('a', 'y', never);
  await clock.advance(100);
  await slots.enter('a', 'z', never);
  await clock.advance(400);
  x.used();
  await clock.advance(100);
  const late = slots.enter('a', 'w', never).catch((error: unknown) => error);
  expect(called).toEqual(['y']);
  // Those whose tunnel is in use give none up, so the others are asked too.
  await clock.advance(200);
  expect(called).toEqual(['y', 'z']);
  await clock.advance(1000);
  expect(called).toContain('x');
  await clock.advance(20_000);
  expect(await late).toMatchObject({ reason: 'EndpointBusy' });
});

test('calls in the tunnel of a host that never falls silent, after those that do', async () => {
  const { slots, called, clock } = slotsOf(2);
  const talking = await slots.enter('a', 'talking', never);
  await slots.enter('a', 'silent', never);
  const late = slots.enter('a', 'late', never).catch((error: unknown) => error);
  const first = new Map<string, number>();
  for (let ms = 0; ms < 15_000; ms += 100) {
    talking.used();
    await clock.advance(100);
    for (const holder of called.splice(0)) first.set(holder, first.get(holder) ?? ms);
  }
  expect([...first.keys()]).toEqual(['silent', 'talking']);
  talking.leave();
  expect(await late).toMatchObject({ leave: expect.any(Function) as unknown });
});

test('whoever gives up waiting takes no place, and leaves no timer behind', async () => {
  const { slots, clock } = slotsOf(1);
  const { leave } = await slots.enter('a', 'x', never);
  const abort = new AbortController();
  const impatient = slots.enter('a', 'y', abort.signal);
  const patient = slots.enter('a', 'z', never);
  abort.abort(new Error('enough'));
  await expect(impatient).rejects.toThrow('enough');
  leave();
  (await patient).leave();
  await clock.advance(200);
  expect(clock.pendingTimers).toBe(0);
  await expect(slots.enter('a', 'y', abort.signal)).rejects.toThrow('enough');
});

test('says that an endpoint is busy when no place comes free', async () => {
  const { slots, clock } = slotsOf(1);
  await slots.enter('eice-1', 'x', never);
  const late = slots.enter('eice-1', 'y', never).catch((error: unknown) => error);
  await clock.advance(20_000);
  expect(await late).toMatchObject({ class: 'waiting', reason: 'EndpointBusy', retryAfterMs: 5000 });
});

test('200 who keep their tunnels open share 16 places: all get one, and nobody waits longer than 3 times the mean', async () => {
  const random = seededRandom(7);
  const clock = new FakeClock();
  const idle = new Map<string, () => void>();
  // As a pool does: at once when nothing runs on it, else not at all.
  const makeRoom = (holder: string): void => idle.get(holder)?.();
  const slots = new TunnelSlots({ limit: 16, clock, makeRoom });
  const waits: number[] = [];
  const workspaces = Array.from({ length: 200 }, async (_, index) => {
    const holder = `i-${index}`;
    const askedAt = clock.monotonic();
    const { leave } = await slots.enter('eice-1', holder, never);
    waits.push(clock.monotonic() - askedAt);
    await clock.sleep(500 + random() * 1000, never);
    idle.set(holder, leave);
  });
  for (let second = 0; second < 40; second++) await clock.advance(1000);
  expect(waits).toHaveLength(200);
  await Promise.all(workspaces);
  const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
  expect(Math.max(...waits)).toBeLessThanOrEqual(3 * mean);
});
