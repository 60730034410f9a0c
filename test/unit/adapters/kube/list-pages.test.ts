import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { expect, onTestFinished, test } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { listPages } from '../../../../src/adapters/kube/list-pages.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const MIB = ' '.repeat(1024 * 1024);
const OBJECTS = 7;

/** A list of objects so large that only so many of them fit into an answer. */
async function serveLarge(fitting: number): Promise<{ readonly client: KubeClient; readonly limits: number[] }> {
  const limits: number[] = [];
  const server = createServer((request, response) => {
    const { searchParams } = new URL(request.url ?? '', 'http://x');
    const [limit, from] = [Number(searchParams.get('limit')), Number(searchParams.get('continue') ?? 0)];
    limits.push(limit);
    if (limit > fitting) {
      for (let size = 0; size < 65; size++) response.write(MIB);
      return void response.end();
    }
    const to = Math.min(OBJECTS, from + limit);
    const items = Array.from({ length: to - from }, (_, index) => ({
      metadata: { name: `w${from + index}`, uid: `u${from + index}`, resourceVersion: '1' },
    }));
    const rest = to < OBJECTS ? { continue: `${to}` } : {};
    response.end(JSON.stringify({ metadata: { resourceVersion: '9', ...rest }, items }));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const clock = new FakeClock();
  const connection = { server: new URL(`http://127.0.0.1:${port}`), tls: {}, headers: {}, namespace: undefined };
  const client = new KubeClient({ access: new KubeAccess({ open: async () => async () => connection, clock }), clock });
  onTestFinished(() => {
    client.close();
    server.closeAllConnections();
    server.close();
  });
  return { client, limits };
}

async function namesOf(client: KubeClient): Promise<readonly string[]> {
  const names: string[] = [];
  const options = { pageSize: 40, signal: new AbortController().signal };
  await listPages(client, { path: '/things' }, options, () => (object) => void names.push(object.metadata.name));
  return names;
}

test('objects that are large keep nobody from the list: its pages get smaller', async () => {
  const { client, limits } = await serveLarge(3);
  expect(await namesOf(client)).toEqual(['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6']);
  expect(limits).toEqual([40, 10, 3, 3, 3]);
});

test('one that is too large alone is named as the reason', async () => {
  const { client, limits } = await serveLarge(0);
  await expect(namesOf(client)).rejects.toMatchObject({
    reason: 'Unreachable',
    message: expect.stringContaining('the answer is larger than 64 MiB') as string,
  });
  expect(limits).toEqual([40, 10, 3, 1]);
});
