import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { Controller, type ControllerOptions } from '../../../src/controller/controller.ts';
import { MemoryWorkQueue } from '../../../src/controller/work-queue.ts';
import { ADVICE } from '../../../src/domain/advice.ts';
import {
  aborted,
  Fault,
  ReconcileError,
  terminal,
  transient,
  unknownOutcome,
  waiting,
} from '../../../src/domain/errors.ts';
import type { ReconcileResult } from '../../../src/ports/reconciler.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { RecordingLogger, type LogLine } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

type Pass = (key: string, signal: AbortSignal) => Promise<ReconcileResult>;

/** A controller that runs, with passes that are recorded as `key@seconds`. */
function start(pass: Pass, options: Partial<ControllerOptions<string>> = {}) {
  const clock = new FakeClock();
  clock.setRandom(() => 0.5);
  const metrics = recordingMetrics();
  const logger = new RecordingLogger();
  const queue = new MemoryWorkQueue<string>({ clock, metrics, laneOf: (key) => key.split(':')[0], laneLimit: 2 });
  const passes: string[] = [];
  const reconcile: Pass = (key, signal) => {
    passes.push(`${key}@${clock.monotonic() / 1000}`);
    return pass(key, signal);
  };
  const controller = new Controller({ queue, reconcile, clock, logger, metrics, workers: 4, ...options });
  const term = new AbortController();
  controller.start(term.signal);
  return { clock, metrics, logger, queue, passes, controller, term };
}

/** Never ends by itself, and at once when aborted: as a pass must be. */
const hang: Pass = (_key, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

const deaf: Pass = () => new Promise(() => undefined);

describe('what comes after a pass', () => {
  test('success: nothing, and the backoff is forgotten', async () => {
    let failures = 2;
    const { clock, queue, passes, controller } = start(async () => {
      if (failures-- > 0) throw transient('Unreachable', 'no route');
      return {};
    });
    queue.add('a');
    await clock.advance(3_600_000);
    // 0.5 s and 1 s: half of the ceilings 1 s and 2 s.
    expect(passes).toEqual(['a@0', 'a@0.5', 'a@1.5']);
    expect(queue.retries('a')).toBe(0);
    await controller.stop();
  });

  test('success with requeueAfter: called again after that time', async () => {
    const { clock, metrics, queue, passes, controller } = start(async () => ({ requeueAfterMs: 10_000 }));
    queue.add('a');
    await clock.advance(25_000);
    expect(passes).toEqual(['a@0', 'a@10', 'a@20']);
    expect(metrics.argsOf('reconciled').map(([outcome]) => outcome)).toEqual(Array(3).fill('requeue_after'));
    expect(queue.placeOf('a')).toMatchObject({ state: 'delayed', cause: 'look' });
    await controller.stop();
  });

  test('what the next call is for is known while it is waited for', async () => {
    const { clock, queue, controller } = start(async () => ({ requeueAfterMs: 10_000, requeueFor: 'restart' }));
    queue.add('a');
    await clock.advance(1_000);
    expect(queue.placeOf('a')).toEqual({ state: 'delayed', inMs: 9_000, cause: 'restart' });
    await controller.stop();
  });

  test('success with a failure in it: counted as an error and retried by its class, at the latest after requeueAfter', async () => {
    const failure = transient('SourceUnavailable', 'one of six plugins could not be fetched');
    const { clock, metrics, logger, queue, passes, controller } = start(async () => ({
      requeueAfterMs: 3_000,
      failure,
    }));
    queue.add('a');
    await clock.advance(10_000);
    expect(passes).toEqual(['a@0', 'a@0.5', 'a@1.5', 'a@3.5', 'a@6.5', 'a@9.5']);
    expect(metrics.argsOf('reconciled')[0]).toEqual(['error', 0, failure]);
    expect(logger.lines.filter((line) => line.level !== 'debug')).toEqual([]);
    await controller.stop();
  });

  test.each<[string, () => ReconcileError, LogLine['level']]>([
    ['waiting', () => waiting('WorkspaceNotRunning', 'container ws-a does not run', 60_000), 'info'],
    ['transient', () => transient('Unreachable', 'no route'), 'warn'],
    ['terminal', () => terminal('InvalidSpec', 'no such target'), 'error'],
  ])(
    '%s again and again: one line with key, reason and what to do, then debug until it got through',
    async (_class, fail, level) => {
      let fails = true;
      const { clock, logger, queue, controller } = start(async () => {
        if (fails) throw fail();
        return {};
      });
      queue.add('a');
      await clock.advance(4 * 3_600_000);
      const told = (): readonly LogLine[] => logger.lines.filter((line) => line.level !== 'debug');
      const { reason } = fail();
      expect(told()).toMatchObject([{ level, fields: { key: 'a', reason, help: ADVICE[reason] } }]);
      fails = false;
      await clock.advance(3_600_000);
      fails = true;
      queue.add('a');
      await clock.advance(3_600_000);
      expect(told()).toHaveLength(2);
      await controller.stop();
    },
  );

  test('two reasons that take turns are two lines', async () => {
    let passes = 0;
    const { clock, logger, queue, controller } = start(async () => {
      throw passes++ % 2 === 0 ? transient('Unreachable', 'no route') : waiting('LockHeld', 'somebody has it', 5_000);
    });
    queue.add('a');
    await clock.advance(3_600_000);
    expect(passes).toBeGreaterThan(100);
    expect(logger.lines.filter((line) => line.level !== 'debug').map(({ fields }) => fields['reason'])).toEqual([
      'Unreachable',
      'LockHeld',
    ]);
    await controller.stop();
  });

  test('transient: retried with a backoff that grows to 5 min', async () => {
    const { clock, queue, passes, controller } = start(async () => {
      throw transient('Unreachable', 'no route');
    });
    queue.add('a');
    await clock.advance(1_000_000);
    const at = passes.map((pass) => Number(pass.split('@')[1]));
    const delays = at.slice(1).map((time, index) => time - (at[index] ?? 0));
    expect(delays).toEqual([0.5, 1, 2, 4, 8, 16, 32, 64, 128, 150, 150, 150, 150]);
    await controller.stop();
  });

  test('waiting: called again after its own time, without backoff', async () => {
    const { clock, metrics, queue, passes, controller } = start(async () => {
      throw waiting('WorkspaceNotRunning', 'it is stopped', 20_000);
    });
    queue.add('a');
    await clock.advance(45_000);
    expect(passes).toEqual(['a@0', 'a@20', 'a@40']);
    expect(queue.retries('a')).toBe(0);
    expect(metrics.argsOf('reconciled')[0]?.[0]).toBe('requeue_after');
    await controller.stop();
  });

  test.each([
    ['none', undefined, 60],
    ['one that is no number', Number.NaN, 60],
    ['nothing at all', 0, 1],
    ['one in the past', -5_000, 1],
  ])('waiting with a useless time (%s) neither spins nor breaks', async (_what, retryAfterMs, seconds) => {
    const options = retryAfterMs === undefined ? {} : { retryAfterMs };
    const { clock, queue, passes, controller } = start(async () => {
      throw new ReconcileError('waiting', 'WorkspaceNotRunning', 'it is stopped', options);
    });
    queue.add('a');
    await clock.advance(seconds * 1_000 + 500);
    expect(passes).toEqual(['a@0', `a@${seconds}`]);
    await controller.stop();
  });

  test('terminal: looked at again about half an hour later, and at once when something wakes it', async () => {
    const { clock, queue, passes, controller } = start(async () => {
      throw terminal('InvalidSpec', 'no such runtime');
    });
    queue.add('a');
    await clock.advance(1_799_000);
    expect(passes).toEqual(['a@0']);
    await clock.advance(1_000);
    expect(passes).toEqual(['a@0', 'a@1800']);
    queue.add('a');
    await settle();
    expect(passes).toHaveLength(3);
    await controller.stop();
  });

  test('unknown outcome: looked at at once, but not in a tight loop when it repeats', async () => {
    const { clock, queue, passes, controller } = start(async () => {
      throw unknownOutcome('the stream ended early');
    });
    queue.add('a');
    await clock.advance(4_000);
    expect(passes).toEqual(['a@0', 'a@0', 'a@1', 'a@3']);
    await controller.stop();
  });

  test('aborted, when this process may not act any more: nothing, and nothing is counted', async () => {
    const { clock, metrics, logger, queue, passes, controller, term } = start((_key, signal) =>
      hang(_key, signal).catch(() => Promise.reject(aborted('the exec was ended'))),
    );
    queue.add('a');
    await settle();
    term.abort();
    await clock.advance(3_600_000);
    expect(passes).toEqual(['a@0']);
    expect(metrics.argsOf('reconciled')).toEqual([]);
    expect(logger.lines.filter((line) => line.level !== 'debug')).toEqual([]);
    await controller.stop();
  });

  test('aborted, though nobody ended it: retried with backoff like what may pass', async () => {
    let failures = 2;
    const { clock, metrics, logger, queue, passes, controller } = start(async () => {
      if (failures-- > 0) throw aborted('the status was not written: another process leads since a newer turn');
      return {};
    });
    queue.add('a');
    await clock.advance(3_600_000);
    expect(passes).toEqual(['a@0', 'a@0.5', 'a@1.5']);
    expect(metrics.argsOf('reconciled').map(([outcome]) => outcome)).toEqual(['error', 'error', 'success']);
    expect(logger.at('warn').map(({ fields }) => fields?.['reason'])).toEqual(['NotLeader']);
    await controller.stop();
  });

  test.each([
    ['an Error', new TypeError('x is not a function')],
    ['a string', 'oops'],
    ['nothing at all', undefined],
  ])(
    'a fault of ours (%s thrown): counted, logged with its stack, retried, and the loop lives',
    async (_name, thrown) => {
      const { clock, metrics, logger, queue, passes, controller } = start((key) =>
        key === 'bad' ? Promise.reject(thrown) : Promise.resolve({}),
      );
      queue.add('bad');
      await clock.advance(600);
      queue.add('good');
      await settle();
      expect(passes).toEqual(['bad@0', 'bad@0.5', 'good@0.6']);
      expect(metrics.argsOf('panicked')).toHaveLength(2);
      expect(metrics.argsOf('reconciled')[0]?.[2]).toMatchObject({ class: 'transient', reason: 'Internal' });
      expect(logger.at('error')[0]?.fields).toMatchObject({ key: 'bad', error: thrown });
      await controller.stop();
    },
  );

  test.each<[string, (fault: Fault) => Promise<ReconcileResult>]>([
    ['told of in a status first, and then thrown', (failure) => Promise.reject(failure)],
    ['of one plugin, which did not stop the pass', (failure) => Promise.resolve({ requeueAfterMs: 60_000, failure })],
  ])('a fault of ours stays one when it was %s', async (_how, end) => {
    const thrown = new TypeError('x is not a function');
    const { clock, metrics, logger, queue, controller } = start(() => end(new Fault(thrown)));
    queue.add('bad');
    await clock.advance(600);
    expect(metrics.argsOf('panicked')).toHaveLength(2);
    expect(logger.at('error').map(({ fields }) => fields['error'])).toEqual([thrown]);
    await controller.stop();
  });

  test('a reconciler that throws before it returns a promise, or asks for a nonsensical delay, is a fault of ours too', async () => {
    const { clock, metrics, queue, passes, controller } = start((key) => {
      if (key === 'sync') throw new Error('thrown, not rejected');
      return Promise.resolve({ requeueAfterMs: Number.NaN });
    });
    queue.add('sync');
    queue.add('nan');
    await clock.advance(500);
    expect(passes).toEqual(['sync@0', 'nan@0', 'sync@0.5', 'nan@0.5']);
    expect(metrics.argsOf('panicked')).toHaveLength(4);
    expect(queue.retries('nan')).toBe(2);
    await controller.stop();
  });

  test('a retry keeps the priority of the key', async () => {
    let priorities: (number | undefined)[] = [];
    const { clock, queue, controller } = start(
      async () => {
        throw transient('Unreachable', 'no route');
      },
      { workers: 1 },
    );
    const get = queue.get.bind(queue);
    queue.get = async () => {
      const item = await get();
      priorities = [...priorities, item?.priority];
      return item;
    };
    queue.add('low', -100);
    await clock.advance(3_000);
    expect(priorities.slice(0, 2)).toEqual([-100, -100]);
    await controller.stop();
  });
});

describe('time', () => {
  test('a pass that takes too long is aborted with a named cause, which is what counts', async () => {
    const { clock, metrics, queue, passes, controller } = start(hang, { passTimeoutMs: 60_000 });
    queue.add('a');
    await clock.advance(60_500);
    expect(passes).toEqual(['a@0', 'a@60.5']);
    expect(metrics.argsOf('timedOut')).toHaveLength(1);
    const [outcome, seconds, error] = metrics.argsOf('reconciled')[0] ?? [];
    expect([outcome, seconds]).toEqual(['error', 60]);
    expect(error).toMatchObject({ class: 'transient', reason: 'PassTimeout' });
    await Promise.all([controller.stop(), clock.advance(120_000)]);
  });

  test.each([
    ['what adapters throw', () => aborted('the exec was aborted')],
    ['what Node throws', () => Object.assign(new Error('The operation was aborted'), { name: 'AbortError' })],
  ])('a timed out pass is retried though it throws %s', async (_name, makeError) => {
    const { clock, metrics, queue, passes, controller } = start(
      (_key, signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(makeError()), { once: true });
        }),
      { passTimeoutMs: 1_000 },
    );
    queue.add('a');
    await clock.advance(1_500);
    expect(passes).toEqual(['a@0', 'a@1.5']);
    expect(metrics.argsOf('panicked')).toEqual([]);
    await Promise.all([controller.stop(), clock.advance(60_000)]);
  });

  test('a pass that ends leaves no timer', async () => {
    const { clock, queue, controller } = start(async () => ({}));
    queue.add('a');
    await settle();
    expect(clock.pendingTimers).toBe(0);
    await controller.stop();
  });

  test('lastProgress is now while a worker is free, and stands still once all are stuck', async () => {
    const { clock, queue, controller } = start(deaf, { workers: 2 });
    await clock.advance(5_000);
    expect(controller.lastProgress).toBe(5_000);
    queue.add('a:1');
    queue.add('b:1');
    await clock.advance(60_000);
    expect(controller.lastProgress).toBe(5_000);
    await Promise.all([controller.stop(), clock.advance(60_000)]);
  });
});

describe('lanes', () => {
  test('a lane that hangs takes its slots and no more; others go on as without it', async () => {
    const { clock, queue, passes, controller } = start((key, signal) =>
      key.startsWith('hung') ? hang(key, signal) : Promise.resolve({}),
    );
    for (let n = 0; n < 50; n++) queue.add(`hung:${n}`);
    for (let n = 0; n < 50; n++) queue.add(`well:${n}`);
    await settle();
    expect(passes.filter((pass) => pass.startsWith('hung'))).toEqual(['hung:0@0', 'hung:1@0']);
    expect(passes.filter((pass) => pass.startsWith('well'))).toHaveLength(50);
    await Promise.all([controller.stop(), clock.advance(60_000)]);
  });
});

describe('the end', () => {
  test('stop takes no more keys and lets passes under way end', async () => {
    const { clock, queue, passes, controller } = start(
      async (_key, signal) => {
        await clock.sleep(10_000, signal);
        return {};
      },
      { workers: 1 },
    );
    queue.add('a');
    queue.add('b');
    await settle();
    let stopped = false;
    const stopping = controller.stop().then(() => (stopped = true));
    await clock.advance(9_999);
    expect(stopped).toBe(false);
    await clock.advance(1);
    await stopping;
    expect(passes).toEqual(['a@0']);
    expect(clock.pendingTimers).toBe(0);
  });

  test('after the grace time passes are aborted and waited for', async () => {
    const { clock, metrics, logger, queue, controller } = start(hang, { graceMs: 30_000 });
    queue.add('a');
    await settle();
    const stopping = controller.stop();
    await clock.advance(30_000);
    await stopping;
    expect(logger.at('warn').map((line) => line.fields)).toEqual([{ keys: ['a'] }]);
    expect(metrics.argsOf('reconciled')).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  test('a pass that does not even react to that is named and left behind', async () => {
    const { clock, logger, queue, controller } = start(deaf, { graceMs: 30_000, abortGraceMs: 10_000 });
    queue.add('a');
    await settle();
    const stopping = controller.stop();
    await clock.advance(40_000);
    await stopping;
    expect(logger.at('error')[0]?.fields).toEqual({ keys: ['a'] });
  });

  test('losing the right to act aborts every pass there and then, and starts no other', async () => {
    const { clock, queue, passes, controller, term } = start(hang, { workers: 1 });
    queue.add('a');
    queue.add('b');
    await settle();
    term.abort();
    await settle();
    expect(passes).toEqual(['a@0']);
    await controller.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test('a key that was handed out in the moment of the loss is not worked on', async () => {
    const { queue, passes, controller, term } = start(async () => ({}));
    await settle();
    queue.add('a');
    term.abort();
    await controller.stop();
    expect(passes).toEqual([]);
  });

  test('stop is idempotent, works before start, and start after the loss does nothing', async () => {
    const { clock, metrics, logger, queue } = start(async () => ({}));
    const options = { queue, reconcile: async () => ({}), clock, logger, metrics };
    const never = new Controller<string>(options);
    await never.stop();
    await never.stop();
    const late = new Controller<string>(options);
    late.start(AbortSignal.abort());
    await late.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test('whatever passes do, stop comes to an end and leaves no timer', async () => {
    const behaviour = fc.constantFrom<Pass>(
      async () => ({}),
      async () => ({ requeueAfterMs: 50 }),
      async () => {
        throw transient('Unreachable', 'no route');
      },
      async () => {
        throw unknownOutcome('cut');
      },
      async () => {
        throw new Error('a bug');
      },
      hang,
      deaf,
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(behaviour, { minLength: 1, maxLength: 10 }),
        fc.nat(2_000),
        fc.boolean(),
        async (behaviours, runMs, isLost) => {
          const { clock, queue, controller, term } = start((key, signal) => behaviours[Number(key)]!(key, signal));
          for (const index of behaviours.keys()) queue.add(`${index}`);
          await clock.advance(runMs);
          if (isLost) term.abort();
          let stopped = false;
          void controller.stop().then(() => (stopped = true));
          await clock.advance(40_000);
          expect(stopped).toBe(true);
          // A pass that hears nothing keeps the timer of its deadline; nothing else does.
          const deafKeys = behaviours.filter((pass) => pass === deaf).length;
          expect(clock.pendingTimers).toBeLessThanOrEqual(deafKeys);
        },
      ),
      { numRuns: 50 },
    );
  });
});

test('I-43: changes during a pass run one more, which sees the last of them; a throw inside releases the key', async () => {
  let declared = 0;
  const seen: number[] = [];
  const { clock, queue, controller } = start(async (_key, signal) => {
    seen.push(declared);
    await clock.sleep(1_000, signal);
    if (seen.length === 1) throw new Error('a fault in the middle');
    return {};
  });
  queue.add('a');
  await settle();
  for (let change = 0; change < 17; change++) {
    declared++;
    queue.add('a');
  }
  await clock.advance(60_000);
  expect(seen).toEqual([0, 17]);
  await controller.stop();
});
