import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Controller } from '../../src/controller/controller.ts';
import { Resync } from '../../src/controller/resync.ts';
import { Supervisor } from '../../src/controller/supervisor.ts';
import { MemoryWorkQueue } from '../../src/controller/work-queue.ts';
import { aborted, terminal, transient, unknownOutcome, waiting } from '../../src/domain/errors.ts';
import type { ReconcileResult } from '../../src/ports/reconciler.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';

/*
 * A fleet on a fake clock: keys on three engines, random edits, and passes that fail in every way there is, hang until
 * they are aborted, or are slow. When the faults end, everything must converge; on the way no key is ever in two passes,
 * no engine has more passes than its share, and nothing spins.
 */

const ENGINES = ['a', 'b', 'c'];
const LANE_LIMIT = 2;
const FAULTS = ['none', 'transient', 'waiting', 'terminal', 'unknown', 'aborted', 'bug', 'hang', 'slow'] as const;
type Fault = (typeof FAULTS)[number];

class Fleet {
  readonly clock: FakeClock;
  readonly declared = new Map<string, number>();
  readonly converged = new Map<string, number>();
  readonly violations: string[] = [];
  readonly #running = new Set<string>();
  passes = 0;
  nextFault: () => Fault = () => 'none';

  constructor(clock: FakeClock, size: number) {
    this.clock = clock;
    for (let n = 0; n < size; n++) this.declared.set(`${ENGINES[n % ENGINES.length]}:${n}`, 1);
  }

  async reconcile(key: string, signal: AbortSignal): Promise<ReconcileResult> {
    this.passes++;
    if (this.#running.has(key)) this.violations.push(`${key} is in two passes`);
    this.#running.add(key);
    const onEngine = [...this.#running].filter((other) => engineOf(other) === engineOf(key));
    if (onEngine.length > LANE_LIMIT) this.violations.push(`at once: ${onEngine.join(', ')}`);
    try {
      const wanted = this.declared.get(key) ?? 0;
      await this.#work(this.nextFault(), signal);
      this.converged.set(key, wanted);
      return { requeueAfterMs: 30_000 };
    } finally {
      this.#running.delete(key);
    }
  }

  lagging(): readonly string[] {
    return [...this.declared].filter(([key, version]) => this.converged.get(key) !== version).map(([key]) => key);
  }

  async #work(fault: Fault, signal: AbortSignal): Promise<void> {
    switch (fault) {
      case 'none':
        return this.clock.sleep(50, signal);
      case 'slow':
        return this.clock.sleep(40_000, signal);
      case 'hang':
        return this.clock.sleep(1e9, signal);
      case 'transient':
        throw transient('Unreachable', 'no route');
      case 'waiting':
        throw waiting('WorkspaceNotRunning', 'it is stopped', 5_000);
      case 'terminal':
        throw terminal('InvalidSource', 'no such scheme');
      case 'unknown':
        throw unknownOutcome('the stream ended early');
      case 'aborted':
        throw aborted('it looked as if the lease was lost');
      case 'bug':
        throw new TypeError('x is not a function');
    }
  }
}

const engineOf = (key: string): string => key.slice(0, 1);

const edit = fc.record({ nth: fc.nat(30), afterMs: fc.nat(20_000) });

test('a fleet with every kind of fault converges once they end, and keeps the laws on the way', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 24 }),
      fc.array(edit, { maxLength: 20 }),
      fc.array(fc.constantFrom(...FAULTS), { minLength: 1, maxLength: 40 }),
      fc.nat(),
      async (size, edits, faults, seed) => {
        const clock = new FakeClock({ seed });
        const ports = { clock, logger: new RecordingLogger(), metrics: recordingMetrics() };
        const fleet = new Fleet(clock, size);
        const queue = new MemoryWorkQueue<string>({ ...ports, laneOf: engineOf, laneLimit: LANE_LIMIT });
        const controller = new Controller<string>({
          ...ports,
          queue,
          reconcile: (key, signal) => fleet.reconcile(key, signal),
          workers: 5,
          passTimeoutMs: 60_000,
        });
        const supervisor = new Supervisor(ports);
        const keys = [...fleet.declared.keys()];
        let drawn = 0;
        fleet.nextFault = () => faults[drawn++ % faults.length] ?? 'none';

        controller.start(new AbortController().signal);
        supervisor.start(new Resync({ list: async () => keys, queue, clock, intervalMs: 600_000 }));
        for (const { nth, afterMs } of edits) {
          await clock.advance(afterMs);
          const key = keys[nth % keys.length]!;
          fleet.declared.set(key, (fleet.declared.get(key) ?? 0) + 1);
          queue.add(key);
        }
        await clock.advance(60_000);

        // Nothing spins: keys come back by their own clocks, and each fault costs a pass or two.
        const seconds = clock.monotonic() / 1000;
        expect(fleet.passes).toBeLessThan(size * (6 + seconds) + 2 * edits.length);

        fleet.nextFault = () => 'none';
        // A hanging pass (1 min), a backoff (5 min) or a resync (10 min, at a random time of it), each may come last.
        await clock.advance(1_300_000);
        expect({ lagging: fleet.lagging(), violations: fleet.violations }).toEqual({ lagging: [], violations: [] });

        const stopped = Promise.all([supervisor.stop(), controller.stop()]);
        await clock.advance(60_000);
        await stopped;
        expect(clock.pendingTimers).toBe(0);
      },
    ),
    { numRuns: 25 },
  );
});
