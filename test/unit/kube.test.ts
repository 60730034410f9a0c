import { setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { SystemClock } from '../../src/adapters/system/clock.ts';
import { Kube } from '../../src/kube.ts';
import { eventually } from '../support/eventually.ts';
import { answerJson, FaultyKubeApi } from '../support/faulty-kube-api.ts';
import { tempDir } from '../support/temp-dir.ts';

test('a renewal of the lease waits for no other call, however many of them hang', async () => {
  const api = await FaultyKubeApi.open();
  const file = join(await tempDir(), 'kubeconfig');
  const named = { name: 'test' };
  const kubeconfig = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ ...named, cluster: { server: `http://127.0.0.1:${api.port}`, 'insecure-skip-tls-verify': true } }],
    users: [{ ...named, user: {} }],
    contexts: [{ ...named, context: { cluster: 'test', user: 'test' } }],
    'current-context': 'test',
  };
  await writeFile(file, JSON.stringify(kubeconfig));
  const kube = new Kube({ config: { kubeconfigs: [file] }, clock: new SystemClock() });
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  try {
    const calls = Array.from({ length: 20 }, () => {
      api.failNext('other', ({ url }, response) => url === '/lease' && answerJson(response, 200, { renewed: true }));
      return kube.client.call({ method: 'GET', path: '/hangs' }, stop.signal).catch(() => undefined);
    });
    await eventually(() => expect(api.openConnections).toBe(16));
    const renewed = await kube.leaseClient.call(
      { method: 'PUT', path: '/lease', body: {} },
      AbortSignal.timeout(5_000),
    );
    expect(renewed).toEqual({ renewed: true });
    stop.abort(new Error('the test is over'));
    await Promise.all(calls);
  } finally {
    kube.close();
    await api.close();
  }
});
