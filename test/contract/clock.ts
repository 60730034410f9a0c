import { describe, expect, test } from 'vitest';

import type { Clock } from '../../src/ports/clock.ts';

export interface ClockHarness {
  readonly clock: Clock;
  /** Lets at least this much time pass on the clock. */
  pass(ms: number): Promise<void>;
}

export function describeClock(name: string, create: () => ClockHarness): void {
  describe(`Clock: ${name}`, () => {
    test('a timer fires once, after its delay has passed on the monotonic clock', async () => {
      const { clock, pass } = create();
      const start = clock.monotonic();
      const fired: number[] = [];
      clock.setTimer(20, () => fired.push(clock.monotonic() - start));
      await pass(60);
      expect(fired).toHaveLength(1);
      // Node may fire a timer a fraction of a millisecond early by this clock.
      expect(fired[0]).toBeGreaterThan(18);
    });

    test('timers fire in the order of their due times', async () => {
      const { clock, pass } = create();
      const fired: string[] = [];
      clock.setTimer(40, () => fired.push('late'));
      clock.setTimer(5, () => fired.push('soon'));
      clock.setTimer(0, () => fired.push('now'));
      await pass(80);
      expect(fired).toEqual(['now', 'soon', 'late']);
    });

    test('a cancelled timer never fires, and cancelling twice is harmless', async () => {
      const { clock, pass } = create();
      let fired = false;
      const timer = clock.setTimer(5, () => (fired = true));
      timer.cancel();
      timer.cancel();
      await pass(30);
      expect(fired).toBe(false);
    });

    test('a delay longer than setTimeout can count does not fire early', async () => {
      const { clock, pass } = create();
      let fired = false;
      const timer = clock.setTimer(2 ** 31 + 5, () => (fired = true));
      await pass(30);
      timer.cancel();
      expect(fired).toBe(false);
    });

    test('sleep resolves after its delay', async () => {
      const { clock, pass } = create();
      const start = clock.monotonic();
      const sleeping = clock.sleep(10, new AbortController().signal).then(() => clock.monotonic() - start);
      await pass(30);
      expect(await sleeping).toBeGreaterThan(8);
    });

    test('sleep rejects with the reason of its signal, at once and before it starts', async () => {
      const { clock } = create();
      const stop = new AbortController();
      const reason = new Error('stopping');
      const sleeping = clock.sleep(1_000_000, stop.signal);
      stop.abort(reason);
      await expect(sleeping).rejects.toBe(reason);
      await expect(clock.sleep(1_000_000, stop.signal)).rejects.toBe(reason);
    });

    test('random is in [0, 1) and moves', () => {
      const { clock } = create();
      const drawn = Array.from({ length: 100 }, () => clock.random());
      expect(drawn.every((value) => value >= 0 && value < 1)).toBe(true);
      expect(new Set(drawn).size).toBeGreaterThan(90);
    });
  });
}
