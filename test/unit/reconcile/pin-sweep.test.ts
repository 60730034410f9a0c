import { expect, it } from 'vitest';

import { transient } from '../../../src/domain/errors.ts';
import type { TargetFate } from '../../../src/ports/workspace-target.ts';
import { sweepPins } from '../../../src/reconcile/pin-sweep.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryControllerState } from '../../support/memory-state.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

const DAY = 86_400_000;
const { signal } = new AbortController();

/** Pins of `gone`, which has an address, and `host`, which has none; and what is told of the first. */
async function world() {
  const state = new MemoryControllerState();
  const clock = new FakeClock();
  const pin = { keys: [{ type: 'ssh-ed25519', key: 'QUFB' }], verified: true, pinnedAtMs: 1 };
  const gone = { ...pin, name: 'gone', address: 'ec2:eu-west-1:id:i-0' };
  await state.compareAndSwap('hostkey/gone', undefined, gone, signal);
  await state.compareAndSwap('hostkey/host', undefined, { ...pin, name: 'host' }, signal);
  await state.compareAndSwap('hostkey/damaged', undefined, 'damaged', signal);
  const asked: (readonly string[])[] = [];
  const told: { fate: TargetFate | Error | undefined } = { fate: undefined };
  const fatesOf = async (addresses: readonly string[]): Promise<ReadonlyMap<string, TargetFate>> => {
    asked.push(addresses);
    if (told.fate instanceof Error) throw told.fate;
    return new Map(told.fate === undefined ? [] : addresses.map((address) => [address, told.fate as TargetFate]));
  };
  return {
    state,
    clock,
    asked,
    /** A sweep while this is told of it; what is left. */
    sweep: async (fate: TargetFate | Error | undefined): Promise<readonly string[]> => {
      told.fate = fate;
      const logger = new RecordingLogger();
      await sweepPins({ state, clock, logger, providers: [{}, { fatesOf }] }, signal);
      return (await state.list('hostkey', signal)).toSorted();
    },
  };
}

const ALL = ['hostkey/damaged', 'hostkey/gone', 'hostkey/host'];
const LEFT = ['hostkey/damaged', 'hostkey/host'];

it('forgets at once what has ended, and nothing without an address of its own', async () => {
  const { sweep, asked } = await world();
  expect(await sweep('there')).toEqual(ALL);
  expect(await sweep('ended')).toEqual(LEFT);
  expect(asked).toEqual([['ec2:eu-west-1:id:i-0'], ['ec2:eu-west-1:id:i-0']]);
  expect(await sweep('ended')).toEqual(LEFT);
  expect(asked).toHaveLength(2);
});

it('forgets what was missing for a month, and counts anew once it was there', async () => {
  const { sweep, clock } = await world();
  expect(await sweep('missing')).toEqual(ALL);
  clock.tick(29 * DAY);
  expect(await sweep('missing')).toEqual(ALL);
  expect(await sweep('there')).toEqual(ALL);
  clock.tick(2 * DAY);
  expect(await sweep('missing')).toEqual(ALL);
  clock.tick(30 * DAY + 1);
  expect(await sweep('missing')).toEqual(LEFT);
});

it('concludes nothing from a look that failed, or that nobody made', async () => {
  const { sweep, state, clock } = await world();
  const before = await state.get('hostkey/gone', signal);
  for (const fate of [transient('Unreachable', 'AWS did not answer'), new Error('a fault'), undefined]) {
    expect(await sweep(fate)).toEqual(ALL);
    clock.tick(60 * DAY);
  }
  expect(await state.get('hostkey/gone', signal)).toEqual(before);
});

it('leaves a pin to whoever wrote it in the meantime', async () => {
  const { sweep, state } = await world();
  const { get } = state;
  state.get = async (key, until) => {
    const document = await get.call(state, key, until);
    if (key === 'hostkey/gone' && document !== undefined)
      await state.compareAndSwap(key, document.version, { ...(document.value as object), pinnedAtMs: 2 }, until);
    return document;
  };
  expect(await sweep('ended')).toEqual(ALL);
});
