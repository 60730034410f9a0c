import { describe, expect, test } from 'vitest';

import { campaign, type LeadingOptions } from '../../../src/controller/leading.ts';
import type { Leadership, Term } from '../../../src/ports/leadership.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

/** A lease that a test hands out and takes away. */
class ScriptedLeadership implements Pick<Leadership, 'acquire'> {
  readonly terms: { readonly lose: () => void; released: boolean }[] = [];
  isFree = true;
  #waiting: (() => void)[] = [];

  async acquire(signal: AbortSignal, onWaiting?: (holder: string) => void): Promise<Term> {
    if (!this.isFree) {
      onWaiting?.('another process');
      await new Promise<void>((resolve, reject) => {
        this.#waiting.push(resolve);
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      });
    }
    const lost = new AbortController();
    const record = { lose: () => lost.abort(), released: false };
    this.terms.push(record);
    return {
      fence: { authority: 'test', epoch: 1, n: this.terms.length },
      signal: lost.signal,
      release: async () => {
        record.released = true;
      },
    };
  }

  free(): void {
    this.isFree = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

function start(lead: LeadingOptions['lead'], leadership = new ScriptedLeadership()) {
  const clock = new FakeClock();
  clock.setRandom(() => 0.5);
  const logger = new RecordingLogger();
  const metrics = recordingMetrics();
  const stop = new AbortController();
  const led: string[] = [];
  let isOver = false;
  const over = campaign(
    {
      leadership,
      clock,
      logger,
      metrics,
      lead: async (term, stopping) => {
        led.push(`${term.fence.n}@${clock.monotonic() / 1000}`);
        await lead(term, stopping);
      },
    },
    stop.signal,
  ).finally(() => (isOver = true));
  return { clock, logger, metrics, stop, leadership, led, over, isOver: () => isOver };
}

const untilAborted = (...signals: AbortSignal[]): Promise<void> =>
  new Promise((resolve) => {
    for (const signal of signals) signal.addEventListener('abort', () => resolve(), { once: true });
  });

const lead: LeadingOptions['lead'] = (term, stop) => untilAborted(term.signal, stop);

describe('campaign', () => {
  test('leads when it may, and says so', async () => {
    const leadership = new ScriptedLeadership();
    leadership.isFree = false;
    const { logger, metrics, stop, led, over } = start(lead, leadership);
    await settle();
    expect(led).toEqual([]);
    expect(logger.at('info').at(-1)?.fields).toEqual({ holder: 'another process' });
    leadership.free();
    await settle();
    expect(led).toEqual(['1@0']);
    expect(metrics.argsOf('leading')).toEqual([[true]]);
    stop.abort();
    await over;
  });

  test('a lost term does not end the process: it stands again at once, under a new fence', async () => {
    const { clock, metrics, stop, leadership, led, over } = start(lead);
    await settle();
    await clock.advance(5_000);
    leadership.terms[0]?.lose();
    await settle();
    expect(led).toEqual(['1@0', '2@5']);
    expect(metrics.argsOf('leading')).toEqual([[true], [false], [true]]);
    stop.abort();
    await over;
  });

  test('whatever the leader throws once its term is lost is no failure', async () => {
    const { logger, stop, leadership, led, over } = start(async (term, stopping) => {
      await lead(term, stopping);
      throw new Error('interrupted');
    });
    await settle();
    leadership.terms[0]?.lose();
    await settle();
    expect(led).toHaveLength(2);
    expect(logger.at('error')).toEqual([]);
    stop.abort();
    await over;
  });

  test.each<[string, LeadingOptions['lead']]>([
    [
      'throws',
      async () => {
        throw new Error('a bug');
      },
    ],
    ['ends by itself', async () => undefined],
  ])('a leader that %s gives the lease back and stands again with backoff', async (_how, failing) => {
    const { clock, logger, stop, leadership, led, over } = start(failing);
    await clock.advance(8_000);
    expect(led).toEqual(['1@0', '2@1', '3@3', '4@7']);
    expect(leadership.terms.every((term) => term.released)).toBe(true);
    // The same failure four times is one piece of news.
    expect(logger.at('error')).toHaveLength(1);
    expect(logger.at('info').map(({ message }) => message)).toEqual(['leading']);
    stop.abort();
    await over;
    expect(clock.pendingTimers).toBe(0);
  });

  test('stop: the leader ends in good order, then the lease is given back', async () => {
    const steps: string[] = [];
    const { clock, stop, leadership, over, isOver } = start(async (_term, stopping) => {
      await untilAborted(stopping);
      await clock.sleep(1_000, new AbortController().signal);
      steps.push(leadership.terms[0]?.released === true ? 'released' : 'still held');
    });
    await settle();
    stop.abort();
    await settle();
    expect(isOver()).toBe(false);
    await clock.advance(1_000);
    await over;
    expect(steps).toEqual(['still held']);
    expect(leadership.terms).toMatchObject([{ released: true }]);
  });

  test('stop while standing by ends the campaign', async () => {
    const leadership = new ScriptedLeadership();
    leadership.isFree = false;
    const { stop, led, over } = start(lead, leadership);
    await settle();
    stop.abort();
    await over;
    expect(led).toEqual([]);
  });

  test('a lease that cannot be given back is no failure of the campaign', async () => {
    const leadership = new ScriptedLeadership();
    const acquire = leadership.acquire.bind(leadership);
    leadership.acquire = async (...args) => ({
      ...(await acquire(...args)),
      release: () => Promise.reject(new Error('the database is gone')),
    });
    const { logger, stop, over } = start(lead, leadership);
    await settle();
    stop.abort();
    await over;
    expect(logger.at('warn')).toMatchObject([{ fields: { error: { message: 'the database is gone' } } }]);
  });

  test('a leadership that breaks its contract ends the campaign with its error, for the supervisor', async () => {
    const leadership = new ScriptedLeadership();
    leadership.acquire = () => Promise.reject(new Error('a bug'));
    await expect(start(lead, leadership).over).rejects.toThrow('a bug');
  });
});
