import { describe, expect, test } from 'vitest';

import { Lifecycle, type Component } from '../../../src/controller/lifecycle.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

function setUp() {
  const clock = new FakeClock();
  const logger = new RecordingLogger();
  const steps: string[] = [];
  const part = (name: string, overrides: Partial<Component> = {}): Component => ({
    name,
    start: async () => void steps.push(`start ${name}`),
    stop: async () => void steps.push(`stop ${name}`),
    ...overrides,
  });
  return { clock, logger, steps, part, lifecycle: new Lifecycle({ clock, logger }) };
}

const never = new AbortController().signal;

describe('Lifecycle', () => {
  test('starts in order and stops in the reverse order, once', async () => {
    const { steps, part, lifecycle } = setUp();
    await lifecycle.start([part('store'), part('queue'), { name: 'neither' }, part('workers')], never);
    await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    await lifecycle.stop();
    const expected = ['start store', 'start queue', 'start workers', 'stop workers', 'stop queue', 'stop store'];
    expect(steps).toEqual(expected);
  });

  test('when one cannot start, those before it are stopped and its error is told', async () => {
    const { steps, part, lifecycle } = setUp();
    const broken = part('broken', { start: () => Promise.reject(new Error('port in use')) });
    await expect(lifecycle.start([part('store'), broken, part('workers')], never)).rejects.toThrow('port in use');
    expect(steps).toEqual(['start store', 'stop store']);
  });

  test('an abort during the start ends it between two parts', async () => {
    const { steps, part, lifecycle } = setUp();
    const stop = new AbortController();
    const last = part('store', { start: async () => stop.abort(new Error('SIGTERM')) });
    await expect(lifecycle.start([last, part('workers')], stop.signal)).rejects.toThrow('SIGTERM');
    expect(steps).toEqual(['stop store']);
  });

  test.each<[string, NonNullable<Component['stop']>]>([
    ['rejects', () => Promise.reject(new Error('still busy'))],
    [
      'throws',
      () => {
        throw new Error('still busy');
      },
    ],
  ])('one whose stop %s keeps no other from stopping', async (_how, stop) => {
    const { logger, steps, part, lifecycle } = setUp();
    await lifecycle.start([part('store'), part('bad', { stop })], never);
    await lifecycle.stop();
    expect(steps.at(-1)).toBe('stop store');
    expect(logger.at('error')).toMatchObject([{ fields: { component: 'bad', error: { message: 'still busy' } } }]);
  });

  test('one whose stop hangs keeps the others waiting, but not for ever', async () => {
    const { clock, logger, steps, part, lifecycle } = setUp();
    await lifecycle.start([part('store'), part('bad', { stop: () => new Promise(() => undefined) })], never);
    const stopping = lifecycle.stop();
    await clock.advance(44_999);
    expect(steps).not.toContain('stop store');
    await clock.advance(1);
    await stopping;
    expect(steps.at(-1)).toBe('stop store');
    expect(logger.at('error')).toMatchObject([{ fields: { component: 'bad' } }]);
    expect(clock.pendingTimers).toBe(0);
  });
});
