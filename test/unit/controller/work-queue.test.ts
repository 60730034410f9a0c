import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { MemoryWorkQueue, type MemoryWorkQueueOptions } from '../../../src/controller/work-queue.ts';
import type { QueueState } from '../../../src/ports/metrics.ts';
import { LOW_PRIORITY, type WorkItem } from '../../../src/ports/work-queue.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

function setUp(options: Partial<MemoryWorkQueueOptions<string>> = {}) {
  const clock = new FakeClock();
  const metrics = recordingMetrics();
  const queue = new MemoryWorkQueue<string>({ clock, metrics, ...options });
  return { clock, metrics, queue };
}

/** A worker that takes whatever comes, and lists it. */
function collect(queue: MemoryWorkQueue<string>): string[] {
  const taken: string[] = [];
  const take = (item: WorkItem<string> | undefined): void => {
    if (item === undefined) return;
    taken.push(item.key);
    void queue.get().then(take);
  };
  void queue.get().then(take);
  return taken;
}

describe('where a key is', () => {
  test('is told with the cause of the delay that counts, which is the earliest', async () => {
    const { clock, queue } = setUp();
    expect(queue.placeOf('a')).toEqual({ state: 'absent' });
    queue.addAfter('a', 30_000, LOW_PRIORITY, 'look');
    clock.tick(10_000);
    expect(queue.placeOf('a')).toEqual({ state: 'delayed', inMs: 20_000, cause: 'look' });
    queue.addAfter('a', 60_000);
    expect(queue.placeOf('a')).toMatchObject({ inMs: 20_000, cause: 'look' });
    queue.addAfter('a', 5_000);
    expect(queue.placeOf('a')).toMatchObject({ inMs: 5_000, cause: 'resync' });
    queue.add('a');
    expect(queue.placeOf('a')).toEqual({ state: 'ready' });
    await queue.get();
    queue.addRateLimited('a');
    expect(queue.placeOf('a')).toEqual({ state: 'working' });
    queue.done('a');
    expect(queue.placeOf('a')).toMatchObject({ state: 'delayed', cause: 'retry' });
  });
});

describe('aging', () => {
  test('a low key lets pass what arrives within a minute after it, and nothing that comes later', async () => {
    const { clock, queue } = setUp();
    queue.add('resync', LOW_PRIORITY);
    clock.tick(59_999);
    queue.add('just in time');
    clock.tick(2);
    queue.add('too late');
    expect(await takeAll(queue)).toEqual(['just in time', 'resync', 'too late']);
  });

  test('a steady stream of high keys does not starve a low one', async () => {
    const { clock, queue } = setUp();
    queue.add('low', LOW_PRIORITY);
    let turnOfLow: number | undefined;
    for (let turn = 0; turn < 1_000 && turnOfLow === undefined; turn++) {
      // Two arrive for each one that is served: the backlog only grows.
      queue.add(`a${turn}`);
      queue.add(`b${turn}`);
      const item = await queue.get();
      if (item?.key === 'low') turnOfLow = turn;
      else if (item !== undefined) queue.done(item.key);
      clock.tick(1_000);
    }
    // It comes after all that arrived within its minute: 60 turns with two arrivals each.
    expect(turnOfLow).toBeDefined();
    expect(turnOfLow).toBeLessThanOrEqual(122);
  });

  test('however keys arrive, one waits only for those that came less than its handicap after it', async () => {
    const arrival = fc.record({ priority: fc.constantFrom(LOW_PRIORITY, -50, 0, 10), afterMs: fc.nat(30_000) });
    await fc.assert(
      fc.asyncProperty(fc.array(arrival, { minLength: 1, maxLength: 40 }), async (arrivals) => {
        const { clock, queue } = setUp();
        const arrived = new Map<string, { at: number; priority: number }>();
        for (const [index, { priority, afterMs }] of arrivals.entries()) {
          clock.tick(afterMs);
          arrived.set(`k${index}`, { at: clock.monotonic(), priority });
          queue.add(`k${index}`, priority);
        }
        const order = (await takeAll(queue)).map((key) => arrived.get(key)!);
        for (const [index, later] of order.entries()) {
          for (const earlier of order.slice(0, index)) {
            const headStartMs = (earlier.priority - later.priority) * 600;
            expect(earlier.at - later.at).toBeLessThanOrEqual(Math.max(0, headStartMs));
          }
        }
      }),
    );
  });
});

describe('lanes', () => {
  const laneOf = (key: string): string | undefined => (key.includes(':') ? key.split(':')[0] : undefined);

  test('keys of a full lane stay queued, keep their order, and come when a slot is free', async () => {
    const { queue } = setUp({ laneOf, laneLimit: 2 });
    for (const key of ['slow:1', 'slow:2', 'slow:3', 'slow:4', 'fast:1']) queue.add(key);
    const taken = collect(queue);
    await settle();
    expect(taken).toEqual(['slow:1', 'slow:2', 'fast:1']);
    expect(queue.depth).toBe(2);
    queue.done('slow:2');
    await settle();
    expect(taken).toEqual(['slow:1', 'slow:2', 'fast:1', 'slow:3']);
    queue.done('fast:1');
    await settle();
    expect(taken).toHaveLength(4);
  });

  test('an edit overtakes low keys that wait for the same lane', async () => {
    const { queue } = setUp({ laneOf, laneLimit: 1 });
    for (const key of ['e:1', 'e:2', 'e:3']) queue.add(key, LOW_PRIORITY);
    const taken = collect(queue);
    await settle();
    queue.add('e:3');
    queue.done('e:1');
    await settle();
    expect(taken).toEqual(['e:1', 'e:3']);
  });

  test('a key without a lane is never held back', async () => {
    const { queue } = setUp({ laneOf, laneLimit: 1 });
    for (const key of ['a', 'b', 'c']) queue.add(key);
    expect(await takeAll(queue)).toEqual(['a', 'b', 'c']);
  });

  test('the lane is asked for each time a key becomes ready', async () => {
    const known = new Map<string, string>();
    const { queue } = setUp({ laneOf: (key) => known.get(key), laneLimit: 1 });
    const taken = collect(queue);
    queue.add('a');
    queue.add('b');
    await settle();
    expect(taken).toEqual(['a', 'b']);
    for (const key of ['a', 'b']) {
      known.set(key, 'engine');
      queue.addAfter(key, 0);
      queue.done(key);
    }
    await settle();
    expect(taken).toEqual(['a', 'b', 'a']);
    queue.done('a');
    await settle();
    expect(taken).toEqual(['a', 'b', 'a', 'b']);
  });
});

describe('timers and metrics', () => {
  test('one timer at most, and none once nothing is delayed or the queue is shut down', () => {
    const { clock, queue } = setUp();
    for (const delayMs of [500, 100, 900]) queue.addAfter(`k${delayMs}`, delayMs);
    expect(clock.pendingTimers).toBe(1);
    clock.tick(1_000);
    expect(clock.pendingTimers).toBe(0);
    queue.addAfter('later', 1_000);
    queue.shutDown();
    expect(clock.pendingTimers).toBe(0);
  });

  test('delayed keys come in the order of their due times', async () => {
    const { clock, queue } = setUp();
    for (const delayMs of [500, 100, 900, 300]) queue.addAfter(`${delayMs}`, delayMs);
    clock.tick(1_000);
    expect(await takeAll(queue)).toEqual(['100', '300', '500', '900']);
  });

  test('the backoff of a key is between nothing and a ceiling that doubles', async () => {
    const { clock, queue } = setUp();
    clock.setRandom(() => 0.5);
    queue.addRateLimited('a');
    clock.tick(499);
    expect(queue.depth).toBe(0);
    clock.tick(1);
    expect(queue.depth).toBe(1);
    await queue.get();
    queue.addRateLimited('a');
    queue.done('a');
    clock.tick(999);
    expect(queue.depth).toBe(0);
    clock.tick(1);
    expect(queue.depth).toBe(1);
  });

  test('it counts adds once per stay, waits and work in seconds, and retries', async () => {
    const { clock, metrics, queue } = setUp();
    queue.add('a');
    queue.add('a');
    clock.tick(2_000);
    await queue.get();
    queue.add('a');
    queue.add('a');
    clock.tick(3_000);
    queue.done('a');
    queue.addRateLimited('b');
    expect(metrics.argsOf('queueAdded')).toHaveLength(2);
    expect(metrics.argsOf('queueWaited')).toEqual([[2]]);
    expect(metrics.argsOf('worked')).toEqual([[3]]);
    expect(metrics.argsOf('queueRetried')).toHaveLength(1);
  });

  test('its state says what waits and what runs', async () => {
    const { clock, metrics, queue } = setUp();
    const [[read]] = metrics.argsOf('observeQueue') as [[() => QueueState]];
    queue.add('first');
    queue.add('second');
    await queue.get();
    clock.tick(1_000);
    await queue.get();
    clock.tick(1_000);
    queue.add('a');
    queue.add('b', LOW_PRIORITY);
    queue.add('c', LOW_PRIORITY);
    queue.addAfter('d', 60_000);
    clock.tick(500);
    expect(read()).toEqual({
      depth: new Map([
        [0, 1],
        [LOW_PRIORITY, 2],
      ]),
      delayed: 1,
      oldestWaitingSeconds: 0.5,
      unfinishedSeconds: 4,
      longestRunningSeconds: 2.5,
    });
  });
});

/*
 * A model of the whole: any sequence of calls, with workers that hold keys as long as they like. What is asserted is what
 * every caller relies on, not how it is done.
 */
describe('laws', () => {
  const KEYS = ['a:1', 'a:2', 'b:1', 'b:2', 'c'];
  const key = fc.constantFrom(...KEYS);
  const call = fc.oneof(
    fc.record({ do: fc.constant('add' as const), key, priority: fc.constantFrom(LOW_PRIORITY, 0, 5) }),
    fc.record({ do: fc.constant('addAfter' as const), key, delayMs: fc.nat(5_000) }),
    fc.record({ do: fc.constant('addRateLimited' as const), key }),
    fc.record({ do: fc.constant('forget' as const), key }),
    fc.record({ do: fc.constant('get' as const) }),
    fc.record({ do: fc.constant('done' as const), key }),
    fc.record({ do: fc.constant('tick' as const), ms: fc.nat(3_000) }),
  );

  test('never two workers on one key, never more of a lane than its limit, and no add is lost', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 60 }), async (calls) => {
        const laneOf = (name: string): string | undefined => (name === 'c' ? undefined : name[0]);
        const { clock, queue } = setUp({ laneOf, laneLimit: 1 });
        const inHand = new Set<string>();
        /** Keys that were added, and not handed out since. */
        const owed = new Set<string>();
        const violations: string[] = [];
        const onItem = (item: WorkItem<string> | undefined): void => {
          if (item === undefined) return;
          if (inHand.has(item.key)) violations.push(`${item.key} was handed out twice`);
          inHand.add(item.key);
          owed.delete(item.key);
          const lane = laneOf(item.key);
          const ofLane = [...inHand].filter((one) => laneOf(one) === lane);
          if (lane !== undefined && ofLane.length > 1) violations.push(`${ofLane.join()} at once`);
        };
        const finish = (name: string): void => {
          inHand.delete(name);
          queue.done(name);
        };
        for (const action of calls) {
          if (action.do === 'add') queue.add(action.key, action.priority);
          if (action.do === 'addAfter') queue.addAfter(action.key, action.delayMs);
          if (action.do === 'addRateLimited') queue.addRateLimited(action.key);
          if (action.do.startsWith('add')) owed.add((action as { key: string }).key);
          if (action.do === 'forget') queue.forget(action.key);
          if (action.do === 'get') void queue.get().then(onItem);
          if (action.do === 'done' && inHand.has(action.key)) finish(action.key);
          if (action.do === 'tick') clock.tick(action.ms);
          await Promise.resolve();
        }

        // From here on a worker that takes all there is: everything owed comes within the longest delay and backoff.
        let idle = false;
        const drain = async (): Promise<void> => {
          for (let item = await queue.get(); item !== undefined; item = await queue.get()) {
            onItem(item);
            finish(item.key);
          }
          idle = true;
        };
        for (const name of [...inHand]) finish(name);
        const draining = drain();
        for (let round = 0; round < 3; round++) {
          await clock.advance(300_000);
          for (const name of [...inHand]) finish(name);
        }
        expect({ violations, owed: [...owed] }).toEqual({ violations: [], owed: [] });
        queue.shutDown();
        await draining;
        expect(idle).toBe(true);
        expect(clock.pendingTimers).toBe(0);
        expect(queue.state()).toMatchObject({ delayed: 0, unfinishedSeconds: 0, depth: new Map() });
      }),
      { numRuns: 200 },
    );
  });
});

/** Takes every ready key without giving any back. */
async function takeAll(queue: MemoryWorkQueue<string>): Promise<string[]> {
  const keys: string[] = [];
  while (queue.depth > 0) {
    const item = await queue.get();
    if (item !== undefined) keys.push(item.key);
  }
  return keys;
}
