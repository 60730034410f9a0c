import { loadavg } from 'node:os';

/** Durations of two ways to do a thing, in milliseconds, taken alternately, so that a busy machine slows both. */
export interface Pairs {
  readonly ours: readonly number[];
  readonly against: readonly number[];
}

export interface Sides {
  /** Answers how long it took, so that each side decides what belongs to it. */
  readonly ours: () => Promise<number>;
  readonly against: () => Promise<number>;
}

export const PAIRS = 15;
const WARM_UP_PAIRS = 3;

/** How often each side is called, warm-up included. */
export const ROUNDS = PAIRS + WARM_UP_PAIRS;

/** `rounds`: for a side that takes its time, where fewer have to do. */
export async function interleave(sides: Sides, rounds = { warmUp: WARM_UP_PAIRS, measured: PAIRS }): Promise<Pairs> {
  const [ours, against]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds.warmUp + rounds.measured; round++) {
    const pair = [await sides.ours(), await sides.against()] as const;
    if (round < rounds.warmUp) continue;
    ours.push(pair[0]);
    against.push(pair[1]);
  }
  return { ours, against };
}

export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

/** Median of the quotients of pairs: what both sides of a pair suffered alike falls out. */
export function medianRatio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, index) => value / (under[index] ?? Number.NaN)));
}

export function medianDifference(ours: readonly number[], against: readonly number[]): number {
  return median(ours.map((value, index) => value - (against[index] ?? Number.NaN)));
}

/** How busy the machine was in the last minute: to be read beside every figure that is compared with none. */
export function load(): string {
  return `load ${loadavg()[0]?.toFixed(1)}`;
}
