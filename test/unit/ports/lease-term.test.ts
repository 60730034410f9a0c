import { expect, test } from 'vitest';

import { waiting } from '../../../src/domain/errors.ts';
import { LeaseTerm, type LeaseTimes } from '../../../src/ports/lease-term.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

const TIMES: LeaseTimes = { leaseMs: 35_000, patienceMs: 30_000, renewMs: 5_000, attemptMs: 10_000 };

/** A term that began now; `renew` says what becomes of each renewal, by its number. */
function begin(renew: (nth: number) => Promise<boolean> | boolean, clock = new FakeClock()) {
  const askedAtMs: number[] = [];
  const logger = new RecordingLogger();
  const term = new LeaseTerm({
    clock,
    logger,
    times: TIMES,
    fence: { authority: 'a', epoch: 1, n: 1 },
    askedAtMs: clock.monotonic(),
    renew: async (leaseMs) => {
      if (leaseMs > 0) askedAtMs.push(clock.monotonic());
      return leaseMs === 0 || (await renew(askedAtMs.length));
    },
  });
  return { clock, logger, term, askedAtMs };
}

/** As a process that gets no processor: what falls due meanwhile has fired when the first of it is heard, or not at all. */
class FreezableClock extends FakeClock {
  #frozenMs = 0;

  override monotonic(): number {
    return super.monotonic() + this.#frozenMs;
  }

  freeze(ms: number): void {
    this.#frozenMs += ms;
  }
}

test('a term that is renewed goes on, and ends with its patience once it is not', async () => {
  const { clock, term } = begin((nth) => (nth <= 10 ? true : new Promise<never>(() => undefined)));
  await clock.advance(79_999);
  expect(term.signal.aborted).toBe(false);
  await clock.advance(1);
  expect(term.signal.aborted).toBe(true);
  await term.release();
  expect(clock.pendingTimers).toBe(0);
});

test.each(Array.from({ length: 12 }, (_, steps) => steps))(
  'a term that is released %i steps after its renewal was answered leaves no timer behind',
  async (steps) => {
    let released: Promise<void> | undefined;
    const { clock, term } = begin(() => {
      void (async () => {
        for (let step = 0; step < steps; step++) await Promise.resolve();
        released = term.release();
      })();
      return true;
    });
    await clock.advance(5_000);
    await released;
    expect(term.signal.aborted).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  },
);

test('a process that was frozen for longer than its patience ends its term, and asks nothing first', async () => {
  const clock = new FreezableClock();
  const { term, askedAtMs } = begin(() => true, clock);
  await clock.advance(4_999);
  clock.freeze(40_000);
  // The timer of the renewal fires, before that of the end.
  clock.tick(1);
  await settle();
  expect(term.signal.aborted).toBe(true);
  expect(askedAtMs).toEqual([]);
});

test('a renewal that was answered before a freeze, and heard after it, ends the term at once', async () => {
  const clock = new FreezableClock();
  let answer: (isRenewed: boolean) => void = () => undefined;
  const { term } = begin(() => new Promise<boolean>((resolve) => (answer = resolve)), clock);
  await clock.advance(5_000);
  clock.freeze(40_000);
  answer(true);
  await settle();
  expect(term.signal.aborted).toBe(true);
});

test('a term that was won too late is over from the start', () => {
  const clock = new FakeClock();
  clock.tick(60_000);
  const term = new LeaseTerm({
    clock,
    logger: new RecordingLogger(),
    times: TIMES,
    fence: { authority: 'a', epoch: 1, n: 1 },
    askedAtMs: 30_000,
    renew: async () => true,
  });
  expect(term.signal.aborted).toBe(true);
});

test('after a failure a renewal is tried again soon, or when the store says so, but always before the lease runs out', async () => {
  const said = [undefined, 4_000, 600_000, 600_000];
  const { clock, term, askedAtMs } = begin((nth) => {
    if (nth > said.length) return true;
    const retryAfterMs = said[nth - 1];
    throw retryAfterMs === undefined ? new Error('broken') : waiting('Throttled', 'busy', retryAfterMs);
  });
  await clock.advance(27_000);
  // 1 s as usual, 4 s as told, then half of the time that is left: 20 s, 10 s.
  expect(askedAtMs).toEqual([5_000, 6_000, 10_000, 20_000, 25_000]);
  expect(term.signal.aborted).toBe(false);
  await term.release();
});
