import { describe, expect, test } from 'vitest';

import { Backoff } from '../../../src/controller/backoff.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** Just below 1, so that what is drawn is all but the ceiling. */
const NEARLY_ONE = 1 - 2 ** -53;

describe('Backoff', () => {
  test('the ceiling doubles from 1 s to 5 min and stays there', () => {
    const backoff = new Backoff<string>({ random: () => NEARLY_ONE });
    const ceilings = Array.from({ length: 12 }, () => Math.round(backoff.next('a') / 1000));
    expect(ceilings).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
  });

  test('a key that has failed for ever still has a finite delay', () => {
    const backoff = new Backoff<string>({ random: () => NEARLY_ONE });
    let delayMs = 0;
    for (let failure = 0; failure < 2_000; failure++) delayMs = backoff.next('a');
    expect(delayMs).toBeLessThanOrEqual(300_000);
    expect(backoff.failures('a')).toBe(2_000);
  });

  test('full jitter: the delays of many keys fill the whole range evenly', () => {
    const backoff = new Backoff<number>(new FakeClock({ seed: 7 }), { baseMs: 1_000 });
    const delays = Array.from({ length: 4_000 }, (_, key) => backoff.next(key));
    const perQuarter = [0, 1, 2, 3].map((q) => delays.filter((ms) => ms >= q * 250 && ms < (q + 1) * 250).length);
    for (const count of perQuarter) expect(count).toBeGreaterThan(900);
    expect(perQuarter.reduce((sum, count) => sum + count)).toBe(4_000);
  });

  test('equal seeds give equal delays', () => {
    const draw = (): number[] => {
      const backoff = new Backoff<string>(new FakeClock({ seed: 42 }));
      return Array.from({ length: 10 }, () => backoff.next('a'));
    };
    expect(draw()).toEqual(draw());
  });

  test('forget starts a key over, touches no other, and leaves nothing behind', () => {
    const backoff = new Backoff<string>({ random: () => NEARLY_ONE });
    backoff.next('a');
    backoff.next('a');
    backoff.next('b');
    backoff.forget('a');
    backoff.forget('never seen');
    expect(backoff.failures('a')).toBe(0);
    expect(backoff.failures('b')).toBe(1);
    expect(backoff.size).toBe(1);
    expect(Math.round(backoff.next('a'))).toBe(1_000);
  });
});
