import { getEventListeners } from 'node:events';

import { expect, test } from 'vitest';

import { Deadline, Expired } from '../../../src/ports/deadline.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const never = new Promise<never>(() => undefined);

test('a deadline ends what it bounds when time is up, and knows why', async () => {
  const clock = new FakeClock();
  const deadline = new Deadline(clock, 1000, new AbortController().signal);
  const bounded = deadline.race(never).catch((error: unknown) => error);
  clock.tick(999);
  expect(deadline.cause).toBeUndefined();
  clock.tick(1);
  expect(deadline.cause).toBe('expired');
  expect(await bounded).toEqual(new Expired(1000));
});

test("a deadline ends with its caller's signal, with that signal's reason, also when that has aborted before", async () => {
  const reason = new Error('lease lost');
  const parent = new AbortController();
  const deadline = new Deadline(new FakeClock(), 1000, parent.signal);
  parent.abort(reason);
  const late = new Deadline(new FakeClock(), 1000, parent.signal);
  for (const each of [deadline, late]) {
    expect(each.cause).toBe('aborted');
    await expect(each.race(never)).rejects.toBe(reason);
  }
});

test('a deadline that was cleared does not end any more and holds nothing', async () => {
  const clock = new FakeClock();
  const parent = new AbortController();
  const deadline = new Deadline(clock, 1000, parent.signal);
  expect(await deadline.race(Promise.resolve('done'))).toBe('done');
  deadline.clear();
  deadline.clear();
  expect(clock.pendingTimers).toBe(0);
  expect(getEventListeners(parent.signal, 'abort')).toEqual([]);
  clock.tick(2000);
  parent.abort();
  expect(deadline.cause).toBeUndefined();
});
