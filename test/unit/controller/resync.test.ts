import { describe, expect, test } from 'vitest';

import { Resync, type ResyncOptions } from '../../../src/controller/resync.ts';
import { MemoryWorkQueue } from '../../../src/controller/work-queue.ts';
import { LOW_PRIORITY } from '../../../src/ports/work-queue.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

const HOUR_MS = 3_600_000;

/** A resync that runs, with a worker that lists what it wakes as `[key, priority, seconds]`. */
function start(list: () => Promise<readonly string[]>, options: Partial<ResyncOptions<string>> = {}) {
  const clock = new FakeClock();
  const queue = new MemoryWorkQueue<string>({ clock, metrics: recordingMetrics() });
  const woken: { key: string; priority: number; atMs: number }[] = [];
  const work = async (): Promise<void> => {
    for (let item = await queue.get(); item !== undefined; item = await queue.get()) {
      woken.push({ ...item, atMs: clock.monotonic() });
      queue.done(item.key);
    }
  };
  const stop = new AbortController();
  let progress = 0;
  const resync = new Resync({ list, queue, clock, intervalMs: HOUR_MS, ...options });
  const running = resync.run(stop.signal, () => progress++).catch((error: unknown) => error);
  void work();
  return { clock, queue, woken, stop, resync, running, progressMade: () => progress };
}

const keys = (count: number): string[] => Array.from({ length: count }, (_, n) => `k${n}`);

describe('Resync', () => {
  test('the first round goes at a pace, in no fixed order, at low priority, each key once', async () => {
    const { clock, woken } = start(async () => keys(1_000), { firstPassPerSecond: 20 });
    await clock.advance(50_000);
    expect(woken.map((item) => item.key).toSorted()).toEqual(keys(1_000).toSorted());
    expect(woken.map((item) => item.key)).not.toEqual(keys(1_000));
    expect(new Set(woken.map((item) => item.priority))).toEqual(new Set([LOW_PRIORITY]));
    const perTenth = Array.from({ length: 10 }, (_, n) => woken.filter(({ atMs }) => Math.floor(atMs / 5_000) === n));
    for (const part of perTenth) expect(part.length).toBeGreaterThan(60);
  });

  test('a small fleet does not wait: three keys are up within 150 ms', async () => {
    const { clock, woken } = start(async () => keys(3));
    await clock.advance(150);
    expect(woken).toHaveLength(3);
  });

  test('then every key is woken once in every interval, at a time of its own', async () => {
    const { clock, woken } = start(async () => keys(100));
    await clock.advance(HOUR_MS);
    for (const round of [1, 2, 3]) {
      woken.length = 0;
      await clock.advance(HOUR_MS);
      expect(woken.map((item) => item.key).toSorted(), `round ${round}`).toEqual(keys(100).toSorted());
      const firstHalf = woken.filter(({ atMs }) => atMs < (round + 0.5) * HOUR_MS);
      expect(firstHalf.length).toBeGreaterThan(25);
      expect(firstHalf.length).toBeLessThan(75);
    }
  });

  test('keys that are gone drop out, new ones come in', async () => {
    let fleet = ['a', 'b'];
    const { clock, woken } = start(async () => fleet);
    await clock.advance(HOUR_MS);
    fleet = ['b', 'c'];
    await clock.advance(HOUR_MS);
    woken.length = 0;
    await clock.advance(2 * HOUR_MS);
    expect(new Set(woken.map((item) => item.key))).toEqual(new Set(['b', 'c']));
  });

  test('an earlier wake of a key takes the place of the resync', async () => {
    const { clock, queue, woken } = start(async () => ['a']);
    await clock.advance(HOUR_MS);
    woken.length = 0;
    queue.addAfter('a', 1);
    await clock.advance(HOUR_MS - 1);
    expect(woken).toHaveLength(1);
  });

  test('it makes progress with every round, often enough for its own watchdog', async () => {
    const { clock, resync, progressMade } = start(async () => ['a']);
    await clock.advance(3 * HOUR_MS - 1);
    expect(progressMade()).toBe(3);
    expect(resync.stallAfterMs).toBeGreaterThan(HOUR_MS);
  });

  test('a list that fails wakes nothing and ends the run with its error; the next run is still the first round', async () => {
    let fails = true;
    const { clock, queue, woken, resync, running, progressMade } = start(async () => {
      if (fails) throw new Error('half a list');
      return keys(10);
    });
    expect(await running).toMatchObject({ message: 'half a list' });
    expect([woken.length, progressMade(), queue.depth]).toEqual([0, 0, 0]);
    fails = false;
    const stop = new AbortController();
    const again = resync.run(stop.signal, () => undefined).catch(() => undefined);
    await clock.advance(500);
    expect(woken).toHaveLength(10);
    stop.abort();
    await again;
  });

  test('it ends as soon as its signal aborts, and leaves no timer of its own', async () => {
    const { clock, queue, stop, running } = start(async () => []);
    await clock.advance(1_000);
    const reason = new Error('stopping');
    stop.abort(reason);
    expect(await running).toBe(reason);
    queue.shutDown();
    expect(clock.pendingTimers).toBe(0);
  });
});
