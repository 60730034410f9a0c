import type { LoopState, QueueState } from '../../ports/metrics.ts';
import { LOW_PRIORITY } from '../../ports/work-queue.ts';
import type { Instruments, Labels } from './instruments.ts';

/** Gauges over the queue and the background loops of whoever leads, read at each scrape. */
export class ControllerGauges {
  readonly #make: Instruments;
  readonly #labels: Labels;
  readonly #series: Readonly<Record<string, string>>;
  #readQueue: (() => QueueState) | undefined;
  #readLoops: () => readonly LoopState[] = () => [];

  /** `labels` and `series`: which queue it is. */
  constructor(make: Instruments, labels: Labels, series: Readonly<Record<string, string>>) {
    this.#make = make;
    this.#labels = labels;
    this.#series = series;
    this.#registerQueue();
    this.#registerLoops();
  }

  observeQueue(read: () => QueueState): void {
    this.#readQueue = read;
  }

  observeLoops(read: () => readonly LoopState[]): void {
    this.#readLoops = read;
  }

  /** A queue that nobody works on any more is no queue. */
  clear(): void {
    this.#readQueue = undefined;
    this.#readLoops = () => [];
  }

  #registerQueue(): void {
    const byPriority = { ...this.#labels, priority: ['0', String(LOW_PRIORITY)] };
    this.#make.readGauge('workqueue_depth', 'Ready keys by priority.', byPriority, (gauge) => {
      for (const [priority, keys] of this.#readQueue?.().depth ?? []) gauge.set({ ...this.#series, priority }, keys);
    });
    const read = (name: string, help: string, value: (state: QueueState) => number): void => {
      this.#make.readGauge(name, help, this.#labels, (gauge) => {
        if (this.#readQueue !== undefined) gauge.set(this.#series, value(this.#readQueue()));
      });
    };
    read('workqueue_unfinished_work_seconds', 'Age of all passes under way, added up.', (now) => now.unfinishedSeconds);
    read(
      'workqueue_longest_running_processor_seconds',
      'Age of the oldest pass under way.',
      (now) => now.longestRunningSeconds,
    );
    read(
      'plugset_queue_oldest_waiting_seconds',
      'How long the longest waiting ready key has waited.',
      (now) => now.oldestWaitingSeconds,
    );
    read(
      'plugset_queue_delayed',
      'Keys that are not due yet: periodic looks, waits and backoff.',
      (now) => now.delayed,
    );
  }

  #registerLoops(): void {
    const loop = { loop: { named: 'each background loop' } };
    this.#make.readGauge('plugset_loop_idle_seconds', 'Since a background loop last got somewhere.', loop, (gauge) => {
      for (const { name, idleSeconds } of this.#readLoops()) gauge.set({ loop: name }, idleSeconds);
    });
    this.#make.readGauge(
      'plugset_loop_stalled',
      '1 while a background loop is silent for longer than it may be.',
      loop,
      (gauge) => {
        for (const { name, stalled } of this.#readLoops()) gauge.set({ loop: name }, stalled ? 1 : 0);
      },
    );
    this.#make.readCounter('plugset_loop_restarts_total', 'Restarts of background loops.', loop, (counter) => {
      for (const { name, restarts } of this.#readLoops()) counter.inc({ loop: name }, restarts);
    });
  }
}
