import { expect, test, onTestFinished } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { watchEvents } from '../../../../src/adapters/kube/watch-events.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { FaultyKubeApi } from '../../../support/faulty-kube-api.ts';

test('a watch whose events are taken slowly is read slowly: they pile up at the server', async () => {
  const api = await FaultyKubeApi.open();
  onTestFinished(() => api.close());
  const clock = new FakeClock();
  const connection = { server: new URL(`http://127.0.0.1:${api.port}`), tls: {}, headers: {}, namespace: undefined };
  const access = new KubeAccess({ open: () => Promise.resolve(() => Promise.resolve(connection)), clock });
  const client = new KubeClient({ access, clock });
  const stop = new AbortController();
  const collection = { path: FaultyKubeApi.path };
  const options = { from: api.version, timeoutSeconds: 300, silenceMs: 70_000, signal: stop.signal };
  const { promise: opened, resolve: onOpen } = withResolvers();
  const events = watchEvents(client, collection, { ...options, onOpen });
  const first = events.next();
  await opened;
  for (let n = 0; n < 64; n++) api.put(`w${n}`, 'x'.repeat(1024 * 1024));
  await first;
  const [watch] = api.watches;
  // What the kernel holds between the two is a few megabytes.
  expect(watch?.response.writableLength).toBeGreaterThan(32 * 1024 * 1024);
  for (let n = 1; n < 64; n++) await events.next();
  expect(watch?.response.writableLength).toBe(0);
  stop.abort();
  await expect(events.next()).rejects.toThrow('aborted');
  expect(clock.pendingTimers).toBe(0);
});

function withResolvers(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
