import { getEventListeners } from 'node:events';

import { expect, it, onTestFinished } from 'vitest';

import { watchEngine } from '../../../src/adapters/docker/engine-events.ts';
import { DockerEngine } from '../../../src/adapters/docker/engine.ts';
import { FilesLeadership } from '../../../src/adapters/files/files-leadership.ts';
import { StateDirectory } from '../../../src/adapters/files/state-directory.ts';
import { PlatformFollower } from '../../../src/adapters/postgres/platform-follower.ts';
import type { PostgresDatabase } from '../../../src/adapters/postgres/postgres-database.ts';
import { dependantsOf } from '../../support/dependants.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { HollowEngine } from '../../support/hollow-engine.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { tempDir } from '../../support/temp-dir.ts';

/*
 * A daemon waits for years under one signal. Of each that `AbortSignal.any` makes of it Node keeps a note (20.20), also when
 * that one is long gone.
 */

const logger = new RecordingLogger();
const ROUNDS = 5;

/** What Node keeps of whoever has waited under the signal. */
function keptOf(signal: AbortSignal): number {
  return dependantsOf(signal) + getEventListeners(signal, 'abort').length;
}

it('is seen where something is kept', () => {
  const { signal } = new AbortController();
  // Newer Nodes take no note of one that nobody listens to.
  AbortSignal.any([signal, new AbortController().signal]).addEventListener('abort', () => undefined);
  expect(keptOf(signal)).toBe(1);
});

it('keeps nothing of each look at the tables of a platform', async () => {
  const clock = new FakeClock();
  const stop = new AbortController();
  let looks = 0;
  const look = async (): Promise<void> => void (looks += 1);
  const database = {} as PostgresDatabase;
  const options = { database, clock, logger, intervalMs: 1_000, channel: undefined, heartbeatMs: 1_000, look };
  const running = new PlatformFollower(options).run(stop.signal);
  await clock.advance(2_000 * ROUNDS);
  expect(looks).toBeGreaterThanOrEqual(ROUNDS);
  expect(keptOf(stop.signal)).toBeLessThanOrEqual(1);
  stop.abort();
  await running;
});

it('keeps nothing of each time that a standby has looked whether the leader is gone', async () => {
  const stateDirectory = await tempDir();
  const clock = new FakeClock();
  const contender = (): FilesLeadership => new FilesLeadership({ stateDirectory, holder: 'test', clock, logger });
  const term = await contender().acquire(new AbortController().signal);
  const stop = new AbortController();
  let waits = 0;
  const waiting = contender().acquire(stop.signal, () => (waits += 1));
  await eventually(() => expect(waits).toBe(1));
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = clock.pendingTimers;
    await clock.advance(5_000);
    await eventually(() => expect(clock.pendingTimers).toBeGreaterThanOrEqual(before));
  }
  expect(keptOf(stop.signal)).toBeLessThanOrEqual(1);
  stop.abort(new Error('enough'));
  await expect(waiting).rejects.toMatchObject({ class: 'aborted' });
  await term.release();
});

it('keeps nothing of each wait for the lock of a state directory', async () => {
  const directory = await tempDir();
  const { signal } = new AbortController();
  const clock = new FakeClock();
  for (let round = 0; round < ROUNDS; round += 1) {
    let letGo = (): void => undefined;
    const inside = new Promise<void>((resolve) => (letGo = resolve));
    let isIn = false;
    const first = new StateDirectory(directory, clock).exclusively(() => ((isIn = true), inside), signal);
    await eventually(() => expect(isIn).toBe(true));
    const second = new StateDirectory(directory, clock).exclusively(async () => undefined, signal);
    await eventually(() => expect(clock.pendingTimers).toBe(1));
    letGo();
    await Promise.all([first, second]);
  }
  expect(keptOf(signal)).toBe(0);
});

it('keeps nothing of each stream of events that an engine has ended', async () => {
  const engine = await HollowEngine.start('ws-alice');
  onTestFinished(() => engine.stop());
  engine.isBroken = true;
  const clock = new FakeClock();
  const stop = new AbortController();
  const asked = new DockerEngine({ name: 'default', address: engine.address, clock, requestTimeoutMs: 10_000 });
  onTestFinished(() => asked.close());
  const nobody = { onEvent: () => undefined, onGap: () => undefined };
  const told = new RecordingLogger();
  const watching = watchEngine({
    engine: asked,
    logger: told,
    inactivityMs: 30_000,
    label: 'l',
    ...nobody,
    signal: stop.signal,
  });
  await eventually(async () => {
    await clock.advance(30_000);
    expect(told.lines.length).toBeGreaterThanOrEqual(ROUNDS);
  });
  expect(keptOf(stop.signal)).toBeLessThanOrEqual(2);
  stop.abort();
  await watching;
});
