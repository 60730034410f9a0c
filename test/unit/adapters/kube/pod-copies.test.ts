import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { podWish, type PodWish } from '../../../../src/adapters/kube/choose-pod.ts';
import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { PodCopies } from '../../../../src/adapters/kube/pod-copies.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';
import { SmallPodsApi } from '../../../support/small-pods-api.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const HOUR_MS = 3_600_000;
const NEVER = new AbortController().signal;

let api: SmallPodsApi;
let clock: FakeClock;
let client: KubeClient;
let copies: PodCopies;

beforeEach(async () => {
  api = await SmallPodsApi.open();
  clock = new FakeClock();
  const connection = { server: api.url, tls: {}, headers: {}, namespace: undefined };
  const access = new KubeAccess({ open: async () => async () => connection, clock });
  client = new KubeClient({ access, clock });
  copies = new PodCopies({
    client,
    logger: new RecordingLogger(),
    metrics: recordingMetrics(),
    onChange: () => undefined,
  });
});
afterEach(async () => {
  await copies.close();
  // Whatever was begun has ended.
  expect(clock.pendingTimers).toBe(0);
  client.close();
  await api.close();
});

function podOf(namespace: string): PodWish {
  return podWish(workspaceAt({ pod: { name: 'alice-0' } }, { namespace }));
}

async function namesFound(namespace: string): Promise<readonly string[]> {
  return (await copies.find(podOf(namespace), NEVER)).map(({ name }) => name);
}

/** As many as there are, each with its watch. */
async function expectWatched(...namespaces: readonly string[]): Promise<void> {
  await eventually(() => expect(api.watched).toEqual(namespaces));
}

function kept(): number {
  return copies.states().reduce((sum, { objects }) => sum + objects, 0);
}

describe('copies of pods', () => {
  beforeEach(async () => {
    api.put('team-a', 'alice-0', {});
    api.put('team-b', 'alice-0', {});
    expect(await namesFound('team-a')).toEqual(['alice-0']);
    expect(await namesFound('team-b')).toEqual(['alice-0']);
    await expectWatched('team-a', 'team-b');
  });

  it('are let go of, with their watch, where nobody asked for two hours', async () => {
    const [pod] = await copies.find(podOf('team-b'), NEVER);
    if (pod === undefined) throw new Error('it was there');
    clock.tick(HOUR_MS);
    copies.now(pod, podOf('team-b'));
    expect(kept()).toBe(2);

    clock.tick(HOUR_MS);
    await eventually(() => expect(kept()).toBe(1));
    // The other one is watched again: it was silent on this clock.
    await eventually(async () => {
      await clock.advance(100);
      expect(api.watched).toEqual(['team-b']);
    });

    clock.tick(HOUR_MS);
    await eventually(() => expect(copies.states()).toEqual([]));
    await expectWatched();
    await eventually(() => expect(clock.pendingTimers).toBe(0));
  });

  it('are begun anew by a later question', async () => {
    clock.tick(2 * HOUR_MS);
    await eventually(() => expect(copies.states()).toEqual([]));
    api.put('team-a', 'alice-0', { changed: 'meanwhile' });
    const lists = api.lists.length;

    const [pod] = await copies.find(podOf('team-a'), NEVER);
    expect(pod?.labels).toEqual({ changed: 'meanwhile' });
    expect(api.lists.slice(lists)).toEqual(['team-a']);
    await expectWatched('team-a');
    expect(await namesFound('team-a')).toEqual(['alice-0']);
    expect(api.lists.slice(lists)).toEqual(['team-a']);
  });

  it('stay for a question that comes in the moment in which they would go', async () => {
    clock.tick(2 * HOUR_MS);
    expect(await namesFound('team-a')).toEqual(['alice-0']);
    expect(api.lists).toEqual(['team-a', 'team-b']);
    await settle();
    expect(kept()).toBe(1);
  });

  it('have all ended, also those that were being let go of, when they are closed', async () => {
    clock.tick(2 * HOUR_MS);
    await copies.close();
    expect(clock.pendingTimers).toBe(0);
    await expectWatched();
  });
});
