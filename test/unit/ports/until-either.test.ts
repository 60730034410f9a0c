import { getEventListeners } from 'node:events';

import { expect, it } from 'vitest';

import { untilEither, whenAborted } from '../../../src/ports/abort.ts';

/** What a signal keeps of others, by the names that Node gives it. */
function keptBy(signal: AbortSignal): number {
  const symbols = Object.getOwnPropertySymbols(signal).filter(({ description }) => description === 'kDependantSignals');
  const dependants = symbols.map(
    (symbol) => (signal as unknown as Record<symbol, { size: number } | undefined>)[symbol],
  );
  return getEventListeners(signal, 'abort').length + dependants.reduce((sum, set) => sum + (set?.size ?? 0), 0);
}

it('ends with the first of two signals, and with its reason', async () => {
  const [one, other] = [new AbortController(), new AbortController()];
  const work = untilEither(one.signal, other.signal, async (either) => {
    await whenAborted(either);
    either.throwIfAborted();
  });
  other.abort(new Error('the other'));
  await expect(work).rejects.toThrow('the other');
  expect(keptBy(one.signal)).toBe(0);
  const late = untilEither(other.signal, one.signal, async (either) => either.aborted);
  expect(await late).toBe(true);
});

it('leaves nothing on a signal that lives on', async () => {
  const long = new AbortController().signal;
  // As it is with the means of Node.
  AbortSignal.any([new AbortController().signal, long]);
  const before = keptBy(long);
  for (let index = 0; index < 100; index += 1)
    await untilEither(new AbortController().signal, long, async () => undefined);
  expect(keptBy(long)).toBe(before);
});
