import { describe, expect, test } from 'vitest';

import { Supervisor, type Loop } from '../../../src/controller/supervisor.ts';
import type { LoopState } from '../../../src/ports/metrics.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

function setUp() {
  const clock = new FakeClock();
  clock.setRandom(() => 0.5);
  const logger = new RecordingLogger();
  const metrics = recordingMetrics();
  return { clock, logger, metrics, supervisor: new Supervisor({ clock, logger, metrics }) };
}

/** A loop that lists when its runs began. */
function loop(clock: FakeClock, run: Loop['run'], stallAfterMs?: number): Loop & { readonly runs: number[] } {
  const runs: number[] = [];
  return {
    name: 'poll',
    runs,
    run: (signal, progress) => {
      runs.push(clock.monotonic() / 1000);
      return run(signal, progress);
    },
    ...(stallAfterMs !== undefined && { stallAfterMs }),
  };
}

const untilAborted: Loop['run'] = (signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

describe('I-70: a background loop that dies does not stay dead', () => {
  test.each<[string, Loop['run']]>([
    [
      'throws',
      async () => {
        throw new Error('a bug');
      },
    ],
    [
      'throws before it returns a promise',
      () => {
        throw new Error('a bug');
      },
    ],
    ['ends by itself', async () => undefined],
  ])('one that %s is run again, with backoff, and that is logged and counted', async (_how, run) => {
    const { clock, logger, supervisor } = setUp();
    const dying = loop(clock, run);
    supervisor.start(dying);
    await clock.advance(40_000);
    // Half of the ceilings 1, 2, 4, 8, 16, 30 s …
    expect(dying.runs).toEqual([0, 0.5, 1.5, 3.5, 7.5, 15.5, 30.5]);
    expect(supervisor.state()).toMatchObject([{ name: 'poll', restarts: 7 }]);
    // The same failure seven times is one piece of news.
    expect(logger.at('error')).toHaveLength(1);
    expect(logger.at('debug').filter(({ message }) => message.includes('started again'))).toHaveLength(6);
    await supervisor.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test('one that stalls is aborted and run again; its idle time is there to be seen', async () => {
    const { clock, logger, metrics, supervisor } = setUp();
    const stalling = loop(clock, untilAborted, 60_000);
    supervisor.start(stalling);
    const [[read]] = metrics.argsOf('observeLoops') as [[() => readonly LoopState[]]];
    await clock.advance(59_000);
    expect(read()).toEqual([{ name: 'poll', idleSeconds: 59, stalled: false, restarts: 0 }]);
    await clock.advance(2_000);
    expect(stalling.runs).toEqual([0, 60.5]);
    expect(logger.at('error')[0]?.fields).toMatchObject({ loop: 'poll', error: { message: 'no progress for 60 s' } });
    await supervisor.stop();
  });

  test('one that makes progress is left alone', async () => {
    const { clock, supervisor } = setUp();
    const working = loop(
      clock,
      async (signal, progress) => {
        for (;;) {
          await clock.sleep(50_000, signal);
          progress();
        }
      },
      60_000,
    );
    supervisor.start(working);
    await clock.advance(600_000);
    expect(working.runs).toEqual([0]);
    expect(supervisor.problem()).toBeUndefined();
    await supervisor.stop();
    expect(clock.pendingTimers).toBe(0);
  });

  test('one that does not react to being aborted is never run twice at once; liveness says so', async () => {
    const { clock, supervisor } = setUp();
    const deaf = loop(clock, () => new Promise(() => undefined), 60_000);
    supervisor.start(deaf);
    await clock.advance(120_000);
    expect(deaf.runs).toEqual([0]);
    expect(supervisor.problem()).toBe('no progress in poll for 120 s');
    expect(supervisor.state()).toMatchObject([{ stalled: true }]);
    await Promise.all([supervisor.stop(), clock.advance(10_000)]);
  });

  test('a run that held out for long starts the backoff over', async () => {
    const { clock, supervisor } = setUp();
    const flaky = loop(clock, async (signal) => {
      await clock.sleep(600_000, signal);
      throw new Error('a bug, now and then');
    });
    supervisor.start(flaky);
    await clock.advance(2_000_000);
    expect(flaky.runs).toEqual([0, 600.5, 1201, 1801.5]);
    await supervisor.stop();
  });

  test('one loop that dies does not touch the others', async () => {
    const { clock, supervisor } = setUp();
    const well = loop(clock, untilAborted);
    supervisor.start({ ...well, name: 'well' });
    supervisor.start(
      loop(clock, async () => {
        throw new Error('a bug');
      }),
    );
    await clock.advance(60_000);
    expect(well.runs).toEqual([0]);
    await supervisor.stop();
  });
});

describe('stop', () => {
  test('aborts every loop, waits for it, and starts none again', async () => {
    const { clock, supervisor } = setUp();
    const ended: string[] = [];
    const slowToEnd = loop(clock, async (signal) => {
      await untilAborted(signal, () => undefined).catch(() => undefined);
      await clock.sleep(3_000, new AbortController().signal);
      ended.push('poll');
    });
    supervisor.start(slowToEnd);
    await settle();
    const stopping = supervisor.stop();
    await clock.advance(2_999);
    expect(ended).toEqual([]);
    await clock.advance(1);
    await stopping;
    expect(ended).toEqual(['poll']);
    await clock.advance(60_000);
    expect(slowToEnd.runs).toEqual([0]);
    expect(clock.pendingTimers).toBe(0);
    expect(supervisor.state()).toEqual([]);
  });

  test('does not wait for ever, and names what it leaves behind', async () => {
    const { clock, logger, supervisor } = setUp();
    supervisor.start(loop(clock, () => new Promise(() => undefined)));
    const stopping = supervisor.stop();
    await clock.advance(10_000);
    await stopping;
    expect(logger.at('error')[0]?.fields).toEqual({ loop: 'poll' });
  });

  test('ends a loop that is waiting for its restart', async () => {
    const { clock, supervisor } = setUp();
    const dying = loop(clock, async () => {
      throw new Error('a bug');
    });
    supervisor.start(dying);
    await settle();
    await supervisor.stop();
    await clock.advance(60_000);
    expect(dying.runs).toEqual([0]);
    expect(clock.pendingTimers).toBe(0);
  });
});

test('two loops of one name are refused', async () => {
  const { clock, supervisor } = setUp();
  supervisor.start(loop(clock, untilAborted));
  expect(() => supervisor.start(loop(clock, untilAborted))).toThrow('the loop poll runs already');
  await supervisor.stop();
});
