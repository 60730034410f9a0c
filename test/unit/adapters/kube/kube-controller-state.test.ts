import { afterEach, beforeEach, expect, test } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { KubeControllerState } from '../../../../src/adapters/kube/kube-controller-state.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { answerJson, FaultyKubeApi, refuse } from '../../../support/faulty-kube-api.ts';

let api: FaultyKubeApi;
let client: KubeClient;

beforeEach(async () => {
  api = await FaultyKubeApi.open();
  const clock = new SystemClock();
  const connection = { server: new URL(`http://127.0.0.1:${api.port}`), tls: {}, headers: {}, namespace: 'here' };
  client = new KubeClient({ access: new KubeAccess({ open: async () => async () => connection, clock }), clock });
});
afterEach(async () => {
  client.close();
  await api.close();
});

test('an API server that says when to come back is not asked before', async () => {
  const state = new KubeControllerState({ client, namespace: 'here' });
  const get = (): Promise<unknown> => state.get('fleet/pause', new AbortController().signal);
  api.failNext('other', (_, response) => refuse(response, 429, 'TooManyRequests', { retryAfterSeconds: 7 }));
  await expect(get()).rejects.toMatchObject({ class: 'waiting', reason: 'StoreUnavailable', retryAfterMs: 7_000 });
  api.failNext('other', (_, response) => answerJson(response, 500, {}));
  await expect(get()).rejects.toMatchObject({
    class: 'transient',
    reason: 'StoreUnavailable',
    retryAfterMs: undefined,
  });
});
