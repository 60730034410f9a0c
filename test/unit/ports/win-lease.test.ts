import { expect, test } from 'vitest';

import { transient, waiting } from '../../../src/domain/errors.ts';
import { winLease } from '../../../src/ports/win-lease.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

test('who asks in vain asks again after its interval, or when the store says to come back', async () => {
  const clock = new FakeClock();
  clock.setRandom(() => 1);
  const failures = [transient('StoreUnavailable', 'gone'), waiting('Throttled', 'busy', 20_000)];
  const askedAtMs: number[] = [];
  const ask = async (): Promise<{ readonly kind: 'won'; readonly term: string }> => {
    askedAtMs.push(clock.monotonic());
    const failure = failures.shift();
    if (failure !== undefined) throw failure;
    return { kind: 'won', term: 'the term' };
  };
  const won = winLease({ clock, logger: new RecordingLogger(), renewMs: 5_000, ask }, new AbortController().signal);
  await clock.advance(60_000);
  expect(await won).toBe('the term');
  expect(askedAtMs).toEqual([0, 5_000, 25_000]);
});
