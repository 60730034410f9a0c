import { describe, expect, test } from 'vitest';

import { LOW_PRIORITY, type WorkQueue } from '../../src/ports/work-queue.ts';

export interface WorkQueueHarness {
  readonly queue: WorkQueue<string>;
  /** Lets at least this much time pass for the queue. */
  pass(ms: number): Promise<void>;
}

const WHOLE_BACKOFF_MS = 300_000;

export function describeWorkQueue(name: string, create: () => Promise<WorkQueueHarness>): void {
  describe(`WorkQueue: ${name}`, () => {
    test('hands out what was added, first come, first served', async () => {
      const { queue } = await create();
      for (const key of ['a', 'b', 'c']) queue.add(key);
      expect(queue.depth).toBe(3);
      expect(await takeAll(queue)).toEqual(['a', 'b', 'c']);
      expect(queue.depth).toBe(0);
    });

    test('a key that is queued already is queued once', async () => {
      const { queue } = await create();
      queue.add('a');
      queue.add('a');
      expect(await takeAll(queue)).toEqual(['a']);
    });

    test('whoever waits in get is served by the next add', async () => {
      const { queue } = await create();
      const first = queue.get();
      const second = queue.get();
      queue.add('a');
      queue.add('b', LOW_PRIORITY);
      expect(await first).toEqual({ key: 'a', priority: 0 });
      expect(await second).toEqual({ key: 'b', priority: LOW_PRIORITY });
    });

    test('a key in hand is not handed out again; an add meanwhile runs it once more after done', async () => {
      const { queue } = await create();
      queue.add('a');
      await queue.get();
      queue.add('a');
      queue.add('a');
      expect(queue.depth).toBe(0);
      queue.done('a');
      expect(queue.depth).toBe(1);
      expect(await takeAll(queue)).toEqual(['a']);
      queue.done('a');
      expect(queue.depth).toBe(0);
    });

    test('done without work in hand does nothing', async () => {
      const { queue } = await create();
      queue.add('a');
      queue.done('a');
      queue.done('b');
      expect(await takeAll(queue)).toEqual(['a']);
    });

    test('a higher priority goes first', async () => {
      const { queue } = await create();
      queue.add('low', LOW_PRIORITY);
      queue.add('normal');
      queue.add('high', 10);
      expect(await takeAll(queue)).toEqual(['high', 'normal', 'low']);
    });

    test('of several priorities for one key the highest counts', async () => {
      const { queue } = await create();
      queue.add('raised', LOW_PRIORITY);
      queue.add('normal');
      queue.add('raised', 5);
      queue.add('raised', LOW_PRIORITY);
      expect(await queue.get()).toEqual({ key: 'raised', priority: 5 });
    });

    test('a key in hand that is added comes back with the priority of the add', async () => {
      const { queue } = await create();
      queue.add('a', LOW_PRIORITY);
      await queue.get();
      queue.add('a', LOW_PRIORITY);
      queue.add('a', 5);
      queue.done('a');
      expect(await queue.get()).toEqual({ key: 'a', priority: 5 });
    });

    test('addAfter waits for its time', async () => {
      const { queue, pass } = await create();
      queue.addAfter('a', 1_000);
      await pass(500);
      expect(queue.depth).toBe(0);
      await pass(600);
      expect(await takeAll(queue)).toEqual(['a']);
    });

    test('a delay of nothing is an add, and one that is no number is refused', async () => {
      const { queue } = await create();
      queue.addAfter('a', 0);
      queue.addAfter('b', -5);
      expect(await takeAll(queue)).toEqual(['a', 'b']);
      expect(() => queue.addAfter('c', Number.NaN)).toThrow(RangeError);
      expect(() => queue.addAfter('c', Infinity)).toThrow(RangeError);
    });

    test('of several delays for one key the earliest counts, in either order', async () => {
      const { queue, pass } = await create();
      queue.addAfter('a', 1_000);
      queue.addAfter('a', 60_000);
      queue.addAfter('b', 60_000);
      queue.addAfter('b', 1_000);
      await pass(2_000);
      expect(await takeAll(queue)).toEqual(['a', 'b']);
      await pass(120_000);
      expect(queue.depth).toBe(0);
    });

    test('an add overtakes a delay and uses it up', async () => {
      const { queue, pass } = await create();
      queue.addAfter('a', 1_000);
      queue.add('a');
      expect(await takeAll(queue)).toEqual(['a']);
      queue.done('a');
      await pass(5_000);
      expect(queue.depth).toBe(0);
    });

    test('a delay for a key that is ready is used up by it', async () => {
      const { queue, pass } = await create();
      queue.add('a');
      queue.addAfter('a', 1_000);
      expect(await takeAll(queue)).toEqual(['a']);
      queue.done('a');
      await pass(5_000);
      expect(queue.depth).toBe(0);
    });

    test('a delay that ends during the work runs the key again after done', async () => {
      const { queue, pass } = await create();
      queue.add('a');
      await queue.get();
      queue.addAfter('a', 1_000);
      await pass(2_000);
      expect(queue.depth).toBe(0);
      queue.done('a');
      expect(await takeAll(queue)).toEqual(['a']);
    });

    test('a rate limited key comes back, counts its failures, and starts over after forget', async () => {
      const { queue, pass } = await create();
      expect(queue.retries('a')).toBe(0);
      for (const failures of [1, 2, 3]) {
        queue.addRateLimited('a');
        expect(queue.retries('a')).toBe(failures);
        await pass(WHOLE_BACKOFF_MS);
        expect(await takeAll(queue)).toEqual(['a']);
        queue.done('a');
      }
      queue.forget('a');
      expect(queue.retries('a')).toBe(0);
    });

    test('forget takes nothing out of the queue', async () => {
      const { queue } = await create();
      queue.add('a');
      queue.forget('a');
      expect(await takeAll(queue)).toEqual(['a']);
    });

    test('shut down, it wakes whoever waits and hands out nothing more', async () => {
      const { queue, pass } = await create();
      const waiting = queue.get();
      queue.shutDown();
      queue.shutDown();
      expect(await waiting).toBeUndefined();
      queue.add('a');
      queue.addAfter('b', 10);
      queue.addRateLimited('c');
      await pass(WHOLE_BACKOFF_MS);
      expect(queue.depth).toBe(0);
      expect(await queue.get()).toBeUndefined();
    });

    test('shut down, it drops what was queued, delayed or dirty, and takes the done of what is in hand', async () => {
      const { queue, pass } = await create();
      queue.add('in hand');
      await queue.get();
      queue.add('in hand');
      queue.add('ready');
      queue.addAfter('delayed', 10);
      queue.shutDown();
      queue.done('in hand');
      await pass(100);
      expect(queue.depth).toBe(0);
      expect(await queue.get()).toBeUndefined();
    });
  });
}

/** Takes every ready key without giving any back. */
async function takeAll(queue: WorkQueue<string>): Promise<string[]> {
  const keys: string[] = [];
  while (queue.depth > 0) {
    const item = await queue.get();
    if (item !== undefined) keys.push(item.key);
  }
  return keys;
}
