import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { podWish, type PodWish } from '../../../../src/adapters/kube/choose-pod.ts';
import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { PodCopies, REFUSED_AGAIN_MS } from '../../../../src/adapters/kube/pod-copies.ts';
import type { Pod } from '../../../../src/adapters/kube/pod.ts';
import { mapAtOnce } from '../../../../src/ports/map-at-once.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock, settle } from '../../../support/fake-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';
import { EVERYWHERE, SmallPodsApi } from '../../../support/small-pods-api.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const HOUR_MS = 3_600_000;
const NEVER = new AbortController().signal;

let api: SmallPodsApi;
let clock: FakeClock;
let client: KubeClient;
let copies: PodCopies;
let logger: RecordingLogger;

beforeEach(async () => {
  api = await SmallPodsApi.open();
  clock = new FakeClock();
  const connection = { server: api.url, tls: {}, headers: {}, namespace: undefined };
  const access = new KubeAccess({ open: async () => async () => connection, clock });
  client = new KubeClient({ access, clock });
  logger = new RecordingLogger();
  copies = new PodCopies({
    client,
    isAnywhere: true,
    logger,
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

describe('copies of pods that are labelled for workspaces', () => {
  const NAMESPACES = Array.from({ length: 200 }, (_, index) => `team-${String(index).padStart(3, '0')}`);
  const LABELS = { 'plugset.dev/workspace': 'alice' };

  const own = (namespace: string): PodWish => podWish(workspaceAt({ pod: {} }, { namespace }));
  const findAll = async (): Promise<number> => {
    const found = await mapAtOnce(8, NAMESPACES, (namespace) => copies.find(own(namespace), NEVER));
    return found.filter(([pod]) => pod?.labels['plugset.dev/workspace'] === 'alice').length;
  };
  const find = async (namespace: string): Promise<readonly string[]> =>
    (await copies.find(own(namespace), NEVER)).map((pod) => pod.name);

  beforeEach(() => {
    for (const namespace of NAMESPACES) {
      api.put(namespace, 'agent', LABELS);
      api.put(namespace, 'of-others', { app: 'web' });
    }
  });

  it('are one for the whole cluster, which holds nothing of other people', async () => {
    await copies.prepare(own('elsewhere'), NEVER);
    expect(api.lists).toEqual([EVERYWHERE]);
    expect(await findAll()).toBe(NAMESPACES.length);
    await expectWatched(EVERYWHERE);
    expect(api.lists).toEqual([EVERYWHERE]);
    expect(kept()).toBe(NAMESPACES.length);
    expect(copies.states()).toHaveLength(1);
  });

  it('stand beside those of a namespace where somebody names a pod', async () => {
    expect(await find('team-001')).toEqual(['agent']);
    const wish = podWish(workspaceAt({ pod: { name: 'of-others' } }, { namespace: 'team-002' }));
    expect((await copies.find(wish, NEVER)).map(({ name }) => name)).toEqual(['of-others']);
    await expectWatched(EVERYWHERE, 'team-002');
  });

  it('know a pod that comes, is labelled anew, or goes to another workspace', async () => {
    const bob = podWish(workspaceAt({ pod: {} }, { namespace: 'team-001', name: 'bob' }));
    const [pod] = await copies.find(own('team-001'), NEVER);
    if (pod === undefined) throw new Error('it was there');
    await expectWatched(EVERYWHERE);
    api.put('team-001', 'second', LABELS);
    await eventually(async () => expect(await find('team-001')).toEqual(['agent', 'second']));
    expect(copies.now(pod, own('team-001'))).toBe(pod);
    api.put('team-001', 'agent', { 'plugset.dev/workspace': 'bob' });
    await eventually(async () => expect(await find('team-001')).toEqual(['second']));
    expect((await copies.find(bob, NEVER)).map(({ name }) => name)).toEqual(['agent']);
  });

  it('are of each namespace where the cluster is not for us, until it is', async () => {
    api.refused.add(EVERYWHERE);
    expect(await findAll()).toBe(NAMESPACES.length);
    await expectWatched(...NAMESPACES);
    expect(api.lists.filter((namespace) => namespace === EVERYWHERE)).toHaveLength(1);
    expect(copies.states()).toMatchObject([{ isSynced: true, objects: NAMESPACES.length }]);
    expect(logger.at('warn')).toEqual([]);

    clock.tick(REFUSED_AGAIN_MS);
    expect(await find('team-001')).toEqual(['agent']);
    expect(api.lists.filter((namespace) => namespace === EVERYWHERE)).toHaveLength(2);
    api.refused.clear();
    clock.tick(REFUSED_AGAIN_MS);
    expect(await find('team-001')).toEqual(['agent']);
    await eventually(() => expect(api.watched).toContain(EVERYWHERE));
    clock.tick(HOUR_MS);
    expect(await find('team-001')).toEqual(['agent']);
    clock.tick(HOUR_MS);
    // It is watched again: it was silent on this clock.
    await eventually(async () => {
      await clock.advance(1_000);
      expect(api.watched).toEqual([EVERYWHERE]);
    });
  });

  it('are refused for the workspaces of that namespace alone where nothing of it is for us', async () => {
    api.refused.add(EVERYWHERE).add('team-001');
    await expect(find('team-001')).rejects.toMatchObject({ reason: 'AccessDenied' });
    expect(await find('team-002')).toEqual(['agent']);
  });

  it('outlast a refusal that passes, and give way to one that stays', async () => {
    expect(await find('team-001')).toEqual(['agent']);
    await expectWatched(EVERYWHERE);
    api.refused.add(EVERYWHERE);
    api.endWatches(EVERYWHERE);
    await eventually(async () => {
      await clock.advance(1_000);
      expect(copies.now(...(await seen()))).toBeUndefined();
    });
    // The API server itself is asked, and nothing is watched anew.
    expect(await find('team-001')).toEqual(['agent']);
    expect(api.watched).toEqual([]);

    clock.tick(120_001);
    expect(await find('team-001')).toEqual(['agent']);
    await expectWatched('team-001');
  });

  async function seen(): Promise<[Pod, PodWish]> {
    const [pod] = await copies.ask(own('team-001'), NEVER);
    if (pod === undefined) throw new Error('it was there');
    return [pod, own('team-001')];
  }
});
