import type { QueuePlace, WaitCause } from '../domain/wake-up.ts';
import type { Clock, Timer } from '../ports/clock.ts';
import type { Metrics, QueueState } from '../ports/metrics.ts';
import type { WorkItem, WorkQueue } from '../ports/work-queue.ts';
import { Backoff, type BackoffOptions } from './backoff.ts';
import { Heap } from './heap.ts';

/*
 * Where a key can be, and what moves it:
 *
 *   nowhere ──add──▶ ready ──get──▶ in hand ──done──▶ nowhere, or ready again if it became dirty
 *   nowhere ──addAfter──▶ delayed ──due──▶ ready
 *   in hand ──add──▶ in hand, dirty
 *   in hand ──addAfter──▶ in hand, delayed ──due──▶ in hand, dirty (ready, if it was done meanwhile)
 *
 * A key is never both ready and in hand; one that is ready or dirty is never delayed as well: the pass that is coming
 * serves both.
 *
 * Ready keys are kept by lane (the engine or host they work on). A lane with `laneLimit` keys in hand is passed over,
 * its keys stay where they are and keep their places, so one that hangs costs the others nothing but those few workers.
 *
 * Aging: a point of priority is worth `MS_PER_PRIORITY_POINT` of waiting. Two keys then never change places while both
 * wait, so the order is fixed when a key arrives: by arrival time, moved forward by its priority. A resync (-100) lets
 * pass whatever arrives up to a minute after it, and nothing else, however steady the stream.
 */
const MS_PER_PRIORITY_POINT = 600;

interface Ready<K> {
  readonly key: K;
  readonly priority: number;
  readonly since: number;
  /** Arrival number: first come, first served among equals. */
  readonly order: number;
  readonly lane: string | undefined;
}

interface Delayed<K> {
  readonly key: K;
  readonly priority: number;
  readonly dueAt: number;
  readonly cause: WaitCause;
}

interface InHand {
  readonly since: number;
  readonly lane: string | undefined;
  /** Set by an add during the work: the priority with which the key runs again after `done`. */
  dirty: number | undefined;
}

interface Lane<K> {
  readonly ready: Heap<Ready<K>>;
  inHand: number;
}

export interface MemoryWorkQueueOptions<K extends string> {
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly backoff?: BackoffOptions;
  /** What this key keeps busy, asked each time it becomes ready; `undefined` (not known yet, or nothing): not capped. */
  readonly laneOf?: (key: K) => string | undefined;
  /** Keys in hand per lane, at most. Well below the number of workers, or one lane can take them all. Default 8. */
  readonly laneLimit?: number;
}

/** The work queue of one process. Nothing in it outlives the process: whoever starts lists the store anew. */
export class MemoryWorkQueue<K extends string> implements WorkQueue<K> {
  readonly #clock: Clock;
  readonly #metrics: Metrics;
  readonly #backoff: Backoff<K>;
  readonly #laneOf: (key: K) => string | undefined;
  readonly #laneLimit: number;

  readonly #ready = new Map<K, Ready<K>>();
  readonly #lanes = new Map<string | undefined, Lane<K>>();
  readonly #delayed = new Map<K, Delayed<K>>();
  readonly #delays = new Heap<Delayed<K>>((a, b) => a.dueAt < b.dueAt);
  readonly #inHand = new Map<K, InHand>();
  readonly #waiters: ((item: WorkItem<K> | undefined) => void)[] = [];
  #timer: Timer | undefined;
  #arrivals = 0;
  #isShutDown = false;

  constructor(options: MemoryWorkQueueOptions<K>) {
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#backoff = new Backoff(options.clock, options.backoff);
    this.#laneOf = options.laneOf ?? (() => undefined);
    this.#laneLimit = options.laneLimit ?? 8;
    this.#metrics.observeQueue(() => this.state());
  }

  add(key: K, priority = 0): void {
    if (this.#isShutDown) return;
    const delayed = this.#takeDelayed(key);
    this.#makeReady(key, Math.max(priority, delayed?.priority ?? priority));
  }

  addAfter(key: K, delayMs: number, priority = 0, cause: WaitCause = 'resync'): void {
    if (!Number.isFinite(delayMs))
      throw new RangeError(`a delay must be a finite number of milliseconds, not ${delayMs}`);
    if (this.#isShutDown) return;
    const isComing = this.#ready.has(key) || this.#inHand.get(key)?.dirty !== undefined;
    if (delayMs <= 0 || isComing) return this.add(key, priority);

    const earlier = this.#takeDelayed(key);
    const dueAt = this.#clock.monotonic() + delayMs;
    const first = earlier !== undefined && earlier.dueAt <= dueAt ? earlier : { dueAt, cause };
    const delayed: Delayed<K> = {
      key,
      dueAt: first.dueAt,
      cause: first.cause,
      priority: Math.max(priority, earlier?.priority ?? priority),
    };
    this.#delayed.set(key, delayed);
    this.#delays.push(delayed);
    this.#armTimer();
  }

  addRateLimited(key: K, priority = 0): void {
    if (this.#isShutDown) return;
    this.#metrics.queueRetried();
    this.addAfter(key, this.#backoff.next(key), priority, 'retry');
  }

  get(): Promise<WorkItem<K> | undefined> {
    const item = this.#isShutDown ? undefined : this.#take();
    if (item !== undefined || this.#isShutDown) return Promise.resolve(item);
    return new Promise((resolve) => {
      this.#waiters.push(resolve);
    });
  }

  done(key: K): void {
    const work = this.#inHand.get(key);
    if (work === undefined) return;
    this.#inHand.delete(key);
    this.#laneFor(work.lane).inHand--;
    this.#metrics.worked((this.#clock.monotonic() - work.since) / 1000);
    if (work.dirty !== undefined && !this.#isShutDown) this.#enqueue(key, work.dirty);
    this.#dropIfEmpty(work.lane);
    this.#serveWaiters();
  }

  forget(key: K): void {
    this.#backoff.forget(key);
  }

  retries(key: K): number {
    return this.#backoff.failures(key);
  }

  get depth(): number {
    return this.#ready.size;
  }

  shutDown(): void {
    this.#isShutDown = true;
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const key of this.#delayed.keys()) this.#takeDelayed(key);
    for (const entry of this.#ready.values()) this.#takeReady(entry);
    for (const resolve of this.#waiters.splice(0)) resolve(undefined);
  }

  /** For people: where this key is, and when and why it comes up. */
  placeOf(key: K): QueuePlace {
    if (this.#inHand.has(key)) return { state: 'working' };
    if (this.#ready.has(key)) return { state: 'ready' };
    const delayed = this.#delayed.get(key);
    if (delayed === undefined) return { state: 'absent' };
    return { state: 'delayed', inMs: Math.max(0, delayed.dueAt - this.#clock.monotonic()), cause: delayed.cause };
  }

  /** For gauges: what waits and what runs at this moment. */
  state(): QueueState {
    const now = this.#clock.monotonic();
    const depth = new Map<number, number>();
    let oldestSince = now;
    for (const { priority, since } of this.#ready.values()) {
      depth.set(priority, (depth.get(priority) ?? 0) + 1);
      oldestSince = Math.min(oldestSince, since);
    }
    const agesMs = [...this.#inHand.values()].map((work) => now - work.since);
    return {
      depth,
      delayed: this.#delayed.size,
      oldestWaitingSeconds: (now - oldestSince) / 1000,
      unfinishedSeconds: agesMs.reduce((sum, age) => sum + age, 0) / 1000,
      longestRunningSeconds: agesMs.reduce((longest, age) => Math.max(longest, age), 0) / 1000,
    };
  }

  #makeReady(key: K, priority: number): void {
    const work = this.#inHand.get(key);
    const queued = this.#ready.get(key);
    if (work !== undefined) {
      if (work.dirty === undefined) this.#metrics.queueAdded();
      work.dirty = Math.max(priority, work.dirty ?? priority);
    } else if (queued === undefined) {
      this.#metrics.queueAdded();
      this.#enqueue(key, priority);
    } else if (priority > queued.priority) {
      this.#takeReady(queued);
      this.#putReady({ ...queued, priority });
    }
    this.#serveWaiters();
  }

  #enqueue(key: K, priority: number): void {
    const since = this.#clock.monotonic();
    this.#putReady({ key, priority, since, order: this.#arrivals++, lane: this.#laneOf(key) });
  }

  #putReady(entry: Ready<K>): void {
    this.#ready.set(entry.key, entry);
    this.#laneFor(entry.lane).ready.push(entry);
  }

  #takeReady(entry: Ready<K>): void {
    this.#ready.delete(entry.key);
    this.#laneFor(entry.lane).ready.remove(entry);
    this.#dropIfEmpty(entry.lane);
  }

  #takeDelayed(key: K): Delayed<K> | undefined {
    const delayed = this.#delayed.get(key);
    if (delayed === undefined) return undefined;
    this.#delayed.delete(key);
    this.#delays.remove(delayed);
    return delayed;
  }

  /** Hands out the first ready key of those lanes that have room. */
  #take(): WorkItem<K> | undefined {
    let first: Ready<K> | undefined;
    for (const [name, lane] of this.#lanes) {
      const head = lane.ready.peek();
      if (head === undefined || (name !== undefined && lane.inHand >= this.#laneLimit)) continue;
      if (first === undefined || goesBefore(head, first)) first = head;
    }
    if (first === undefined) return undefined;
    const { key, priority, lane } = first;
    const now = this.#clock.monotonic();
    this.#takeReady(first);
    this.#inHand.set(key, { since: now, lane, dirty: undefined });
    this.#laneFor(lane).inHand++;
    this.#metrics.queueWaited((now - first.since) / 1000);
    return { key, priority };
  }

  #serveWaiters(): void {
    while (this.#waiters.length > 0) {
      const item = this.#take();
      if (item === undefined) return;
      this.#waiters.shift()?.(item);
    }
  }

  #armTimer(): void {
    this.#timer?.cancel();
    const next = this.#delays.peek();
    if (next === undefined) this.#timer = undefined;
    else
      this.#timer = this.#clock.setTimer(Math.max(0, next.dueAt - this.#clock.monotonic()), () => this.#releaseDue());
  }

  #releaseDue(): void {
    const now = this.#clock.monotonic();
    for (let next = this.#delays.peek(); next !== undefined && next.dueAt <= now; next = this.#delays.peek()) {
      this.add(next.key, next.priority);
    }
    this.#armTimer();
  }

  #laneFor(name: string | undefined): Lane<K> {
    let lane = this.#lanes.get(name);
    if (lane === undefined) {
      lane = { ready: new Heap<Ready<K>>(goesBefore), inHand: 0 };
      this.#lanes.set(name, lane);
    }
    return lane;
  }

  #dropIfEmpty(name: string | undefined): void {
    const lane = this.#lanes.get(name);
    if (lane?.inHand === 0 && lane.ready.size === 0) this.#lanes.delete(name);
  }
}

function goesBefore<K>(a: Ready<K>, b: Ready<K>): boolean {
  const lead = placeOf(a) - placeOf(b);
  return lead < 0 || (lead === 0 && a.order < b.order);
}

function placeOf<K>(entry: Ready<K>): number {
  return entry.since - entry.priority * MS_PER_PRIORITY_POINT;
}
