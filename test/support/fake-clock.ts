import type { Clock, Timer } from '../../src/ports/clock.ts';

interface PendingTimer {
  readonly dueAt: number;
  readonly order: number;
  readonly callback: () => void;
}

export interface FakeClockOptions {
  /** Wall clock at the start, Unix milliseconds. */
  readonly startMs?: number;
  /** Seed of {@link FakeClock.random}. */
  readonly seed?: number;
}

/**
 * A clock that stands still until a test moves it. Timers fire in the order of their due times, those of one time in the
 * order in which they were set.
 *
 * - `tick(ms)` fires what is due and returns at once: for code without promises, and inside properties.
 * - `await advance(ms)` also lets every promise settle before, between and after the timers: for everything else.
 */
export class FakeClock implements Clock {
  readonly #pending = new Set<PendingTimer>();
  #wall: number;
  #monotonic = 0;
  #order = 0;
  #random: () => number;

  constructor(options: FakeClockOptions = {}) {
    this.#wall = options.startMs ?? Date.UTC(2026, 0, 1);
    this.#random = seededRandom(options.seed ?? 1);
  }

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return this.#monotonic;
  }

  random(): number {
    return this.#random();
  }

  /** Replaces the seeded source, e.g. by `() => 0.5` where a test wants to know the exact jitter. */
  setRandom(random: () => number): void {
    this.#random = random;
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    const timer = { dueAt: this.#monotonic + Math.max(0, delayMs), order: this.#order++, callback };
    this.#pending.add(timer);
    return { cancel: () => void this.#pending.delete(timer) };
  }

  sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(signal.reason);
      };
      const timer = this.setTimer(delayMs, () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Timers that were set and have neither fired nor been cancelled; 0 after a clean shutdown. */
  get pendingTimers(): number {
    return this.#pending.size;
  }

  /** Moves time on and fires what falls due, without letting promises settle. */
  tick(ms: number): void {
    const until = this.#monotonic + ms;
    while (this.#fireNext(until));
    this.#moveTo(until);
  }

  /** Moves time on, firing what falls due; promises settle before, between and after the timers. */
  async advance(ms: number): Promise<void> {
    const until = this.#monotonic + ms;
    do await settle();
    while (this.#fireNext(until));
    this.#moveTo(until);
    await settle();
  }

  /** Moves the wall clock only, as an administrator or NTP does. */
  jumpWall(ms: number): void {
    this.#wall += ms;
  }

  #fireNext(until: number): boolean {
    let next: PendingTimer | undefined;
    for (const timer of this.#pending) {
      if (timer.dueAt <= until && (next === undefined || isBefore(timer, next))) next = timer;
    }
    if (next === undefined) return false;
    this.#pending.delete(next);
    this.#moveTo(next.dueAt);
    next.callback();
    return true;
  }

  #moveTo(monotonic: number): void {
    const step = Math.max(0, monotonic - this.#monotonic);
    this.#monotonic += step;
    this.#wall += step;
  }
}

/** Lets every promise that can settle without time, timers or I/O do so. */
export function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function isBefore(a: PendingTimer, b: PendingTimer): boolean {
  return a.dueAt < b.dueAt || (a.dueAt === b.dueAt && a.order < b.order);
}

/** Mulberry32: small, even enough for jitter, the same on every machine. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
