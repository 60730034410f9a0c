import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { PodTargetProvider } from '../../../../src/adapters/kube/pod-target-provider.ts';
import type { Workspace } from '../../../../src/domain/workspace.ts';
import { eventually } from '../../../support/eventually.ts';
import { LeapingClock } from '../../../support/leaping-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';
import { SmallPodsApi } from '../../../support/small-pods-api.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const HOUR_MS = 3_600_000;

let api: SmallPodsApi;
let clock: LeapingClock;
let client: KubeClient;
let provider: PodTargetProvider;
let stirred: string[];

beforeEach(async () => {
  api = await SmallPodsApi.open();
  clock = new LeapingClock();
  const connection = { server: api.url, tls: {}, headers: {}, namespace: undefined };
  const access = new KubeAccess({ open: async () => async () => connection, clock });
  client = new KubeClient({ access, clock });
  provider = new PodTargetProvider({
    allowed: {},
    client,
    logger: new RecordingLogger(),
    metrics: recordingMetrics(),
  });
  stirred = [];
});
afterEach(async () => {
  await provider.close();
  client.close();
  await api.close();
});

function labelled(namespace: string, labels: Readonly<Record<string, string>>): Workspace {
  return workspaceAt({ pod: { selector: labels } }, { namespace });
}

/** As a pass does, which first notes where a workspace points. */
async function locate(workspace: Workspace): Promise<void> {
  provider.addresses(workspace);
  await provider.locate(workspace, new AbortController().signal);
}

function addressOf(workspace: Workspace): string {
  return provider.addresses(workspace)[0] ?? '';
}

/** Listens from now on; what was told before is told. */
async function listen(...namespaces: readonly string[]): Promise<void> {
  await eventually(() => expect(api.watched).toEqual(namespaces));
  provider.watch(
    (address) => void stirred.push(address),
    () => undefined,
    new AbortController().signal,
  );
}

describe('the pods of workspaces', () => {
  it('wake whoever means them by name or labels, and nobody of another namespace', async () => {
    const [one, other] = [labelled('team-a', { app: 'agent' }), labelled('team-b', { app: 'agent' })];
    for (const namespace of ['team-a', 'team-b']) api.put(namespace, 'alice-0', { app: 'agent' });
    await locate(one);
    await locate(other);
    await listen('team-a', 'team-b');

    api.put('team-a', 'alice-0', { app: 'agent', changed: 'once' });
    await eventually(() => expect(stirred).toHaveLength(2));
    // So that news of the first would have come as well.
    api.put('team-b', 'alice-0', { app: 'agent', changed: 'once' });
    await eventually(() => expect(stirred).toHaveLength(4));
    expect(stirred).toEqual(['pod:team-a:name:alice-0', addressOf(one), 'pod:team-b:name:alice-0', addressOf(other)]);
  });

  it('wake nobody by labels that nobody looked for within two hours', async () => {
    const [living, gone] = [labelled('team-a', { app: 'agent' }), labelled('team-a', { its: 'alice' })];
    api.put('team-a', 'alice-0', { app: 'agent', its: 'alice' });
    await locate(gone);
    await locate(living);
    clock.leap(HOUR_MS);
    await locate(living);
    clock.leap(HOUR_MS);
    await locate(living);
    await listen('team-a');

    api.put('team-a', 'alice-0', { app: 'agent', its: 'alice', changed: 'once' });
    await eventually(() => expect(stirred).toContain(addressOf(living)));
    expect(stirred).toEqual(['pod:team-a:name:alice-0', addressOf(living)]);

    stirred = [];
    await locate(gone);
    api.put('team-a', 'alice-0', { app: 'agent', its: 'alice', changed: 'twice' });
    await eventually(() => expect(stirred).toContain(addressOf(gone)));
  });

  it('tell by which addresses each of those who may mean them declares it', async () => {
    const own = workspaceAt({ pod: {} }, { namespace: 'team-a' });
    const [byApp, other] = [labelled('team-a', { app: 'agent' }), labelled('team-a', { app: 'web' })];
    api.put('team-a', 'alice-0', { 'plugset.dev/workspace': 'alice', app: 'agent' });
    for (const workspace of [byApp, other]) provider.addresses(workspace);
    const { addresses } = await provider.locate(own, new AbortController().signal);
    expect(addresses?.()).toEqual(['pod:team-a:name:alice-0', addressOf(own), addressOf(byApp)]);
  });

  it('are known before anybody leads, where workspaces may be pods', async () => {
    api.put('team-a', 'alice-0', { 'plugset.dev/workspace': 'alice' });
    await provider.prepare?.(workspaceAt({ pod: {} }, { namespace: 'team-a' }), new AbortController().signal);
    expect(provider.states()).toMatchObject([{ isSynced: true, objects: 1 }]);
    const nobodys = new PodTargetProvider({
      allowed: { namespaces: [] },
      client,
      logger: new RecordingLogger(),
      metrics: recordingMetrics(),
    });
    expect(nobodys.prepare).toBeUndefined();
  });

  it('are watched in their namespace alone where the operator names namespaces', async () => {
    const named = new PodTargetProvider({
      allowed: { namespaces: ['team-a'] },
      client,
      logger: new RecordingLogger(),
      metrics: recordingMetrics(),
    });
    try {
      const signal = new AbortController().signal;
      for (const namespace of ['team-a', 'team-b'])
        await named.prepare?.(workspaceAt({ pod: {} }, { namespace }), signal);
      expect(api.lists).toEqual(['team-a']);
    } finally {
      await named.close();
    }
  });
});
