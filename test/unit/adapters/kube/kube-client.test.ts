import { setMaxListeners } from 'node:events';
import { readFile } from 'node:fs/promises';

import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient, type KubeRequest } from '../../../../src/adapters/kube/kube-client.ts';
import type { KubeConnection } from '../../../../src/adapters/kube/kube-connection.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { Clock } from '../../../../src/ports/clock.ts';
import { hasOpenssl, TestAuthority } from '../../../support/authority.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { answerJson, FaultyKubeApi, refuse } from '../../../support/faulty-kube-api.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';

const never = new AbortController().signal;
setMaxListeners(0, never);
const GET: KubeRequest = { method: 'GET', path: '/version' };
const PATCH: KubeRequest = {
  method: 'PATCH',
  path: '/apis/x',
  body: { a: 1 },
  contentType: 'application/apply-patch+yaml',
};

/** A client of `connections`, one after the other: each time the credential is read again after a refusal it is the next. */
function clientOf(
  connections: readonly KubeConnection[],
  clock: Clock = new SystemClock(),
  metrics = recordingMetrics(),
) {
  let opened = -1;
  const open = (): Promise<() => Promise<KubeConnection>> => {
    opened = Math.min(opened + 1, connections.length - 1);
    const connection = connections[opened] as KubeConnection;
    return Promise.resolve(() => Promise.resolve(connection));
  };
  const client = new KubeClient({ access: new KubeAccess({ open, clock }), clock, metrics });
  onTestFinished(() => client.close());
  return { client, metrics };
}

function connectionTo(api: FaultyKubeApi, token = 't1', tls: KubeConnection['tls'] = {}): KubeConnection {
  const scheme = tls.ca === undefined ? 'http' : 'https';
  const server = new URL(`${scheme}://127.0.0.1:${api.port}`);
  return { server, tls, headers: { Authorization: `Bearer ${token}` }, namespace: undefined };
}

describe('a call', () => {
  let api: FaultyKubeApi;
  beforeEach(async () => {
    api = await FaultyKubeApi.open();
  });
  afterEach(() => api.close());

  it('asks with method, path, query, credential and body, and answers what the server says', async () => {
    const { client, metrics } = clientOf([connectionTo(api)]);
    api.failNext('other', (request, response) => {
      request.setEncoding('utf8').on('data', (body: string) => answerJson(response, 201, { body: JSON.parse(body) }));
    });
    const query = { fieldManager: 'plugset', force: 'true', labelSelector: 'a in (b)', left: undefined };
    expect(await client.call({ ...PATCH, query }, never)).toEqual({ body: { a: 1 } });
    expect(api.seen[0]).toMatchObject({
      method: 'PATCH',
      path: '/apis/x',
      query: { fieldManager: 'plugset', force: 'true', labelSelector: 'a in (b)' },
      headers: { authorization: 'Bearer t1', 'content-type': 'application/apply-patch+yaml', 'user-agent': 'plugset' },
    });
    expect(metrics.argsOf('kubeAsked')).toEqual([[`127.0.0.1:${api.port}`, 'PATCH', '201', expect.any(Number)]]);
  });

  it('reaches a server below a path of its own', async () => {
    const server = new URL(`http://127.0.0.1:${api.port}/k8s/clusters/c-1/`);
    const { client } = clientOf([{ ...connectionTo(api), server }]);
    await client.call(GET, never);
    expect(api.seen[0]?.path).toBe('/k8s/clusters/c-1/version');
  });

  it('that is refused says by what, and how the server put it', async () => {
    const { client, metrics } = clientOf([connectionTo(api)]);
    api.failNext('other', (_, response) => refuse(response, 409, 'Conflict'));
    await expect(client.call(PATCH, never)).rejects.toMatchObject({ status: 409, statusReason: 'Conflict' });
    api.failNext('other', (_, response) => response.writeHead(429, { 'retry-after': '7' }).end('busy'));
    await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'Throttled', retryAfterMs: 7_000 });
    expect(metrics.argsOf('kubeAsked').map(([, , code]) => code)).toEqual(['409', '429']);
  });

  it.each([
    ['a moment', { 'retry-after': 'Wed, 21 Oct 2026 07:28:09 GMT', date: 'Wed, 21 Oct 2026 07:28:00 GMT' }, 9_000],
    ['one that is over', { 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT', date: 'Wed, 21 Oct 2026 07:28:09 GMT' }, 0],
    ['no time at all', { 'retry-after': 'soon' }, 1_000],
  ])('that is refused until %s waits so long', async (_, headers, ms) => {
    const { client } = clientOf([connectionTo(api)]);
    api.failNext('other', (__, response) => response.writeHead(429, headers).end());
    await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'Throttled', retryAfterMs: ms });
  });

  it('that is refused at length is refused', async () => {
    const { client } = clientOf([connectionTo(api)]);
    api.failNext('other', (_, response) => response.writeHead(403).end('<html>'.repeat(100_000)));
    await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'AccessDenied', status: 403 });
  });

  it('follows no redirect: the credential is for one server', async () => {
    const { client } = clientOf([connectionTo(api)]);
    api.failNext('other', (_, response) => response.writeHead(302, { location: '/elsewhere' }).end());
    await expect(client.call(GET, never)).rejects.toMatchObject({ status: 302 });
    expect(api.seen).toHaveLength(1);
  });

  it('without anybody there is Unreachable, also one that was to change something', async () => {
    const { client } = clientOf([connectionTo(api)]);
    await api.close();
    for (const request of [GET, PATCH]) {
      await expect(client.call(request, never)).rejects.toMatchObject({ class: 'transient', reason: 'Unreachable' });
    }
    api = await FaultyKubeApi.open();
  });

  it.each([
    ['reads', GET, 'transient', 'Unreachable'],
    ['changes', PATCH, 'unknown', 'OutcomeUnknown'],
  ])('that %s and is cut off: %o', async (_, request, errorClass, reason) => {
    const { client } = clientOf([connectionTo(api)]);
    api.failNext('other', () => api.cut());
    await expect(client.call(request, never)).rejects.toMatchObject({ class: errorClass, reason });
  });

  it('that reads on a connection which was closed meanwhile is sent again', async () => {
    const { client } = clientOf([connectionTo(api)]);
    await client.call(GET, never);
    api.failNext('other', () => api.cut());
    await client.call(GET, never);
    expect([api.seen.length, api.connections]).toEqual([3, 2]);
  });

  it('that answers half, or what is no JSON, is Unreachable', async () => {
    const { client } = clientOf([connectionTo(api)]);
    api.failNext('other', (_, response) => {
      response.writeHead(200, { 'content-length': 100 }).write('{"a":', () => response.socket?.destroy());
    });
    await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'Unreachable' });
    api.failNext('other', (_, response) => response.end('<html>'));
    await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'Unreachable' });
  });

  it.each(['aborted', 'too late'])('that is %s really ends', async (how) => {
    const clock = new FakeClock();
    const { client } = clientOf([connectionTo(api)], clock);
    const controller = new AbortController();
    api.failNext('other', () => undefined);
    const call = client.call({ ...GET, timeoutMs: 5_000 }, controller.signal).catch((error: unknown) => error);
    await eventually(() => expect(api.seen).toHaveLength(1));
    if (how === 'aborted') controller.abort();
    else await clock.advance(5_000);
    expect(await call).toMatchObject(
      how === 'aborted'
        ? { class: 'aborted' }
        : { reason: 'Unreachable', message: expect.stringContaining('no answer within 5 s') as string },
    );
    await eventually(() => expect(api.openConnections).toBe(0));
    expect(clock.pendingTimers).toBe(0);
  });

  it('that waits for a connection ends as well, and holds up nobody', async () => {
    const { client } = clientOf([connectionTo(api)]);
    const controller = new AbortController();
    setMaxListeners(0, controller.signal);
    const held = Array.from({ length: 16 }, () => {
      api.failNext('other', () => undefined);
      return client.call(GET, controller.signal).catch((error: unknown) => error);
    });
    await eventually(() => expect(api.seen).toHaveLength(16));
    const waits = new AbortController();
    const waiting = client.call(GET, waits.signal).catch((error: unknown) => error);
    waits.abort();
    expect(await waiting).toMatchObject({ class: 'aborted' });
    controller.abort();
    await Promise.all(held);
    await client.call(GET, never);
    expect(api.seen).toHaveLength(17);
  });
});

describe('a credential', () => {
  let api: FaultyKubeApi;
  beforeEach(async () => {
    api = await FaultyKubeApi.open();
  });
  afterEach(() => api.close());

  it('that is not taken is read again, once', async () => {
    const { client } = clientOf([connectionTo(api, 'old'), connectionTo(api, 'new')]);
    api.failNext('other', (_, response) => refuse(response, 401, 'Unauthorized'));
    await client.call(GET, never);
    expect(api.seen.map(({ headers }) => headers.authorization)).toEqual(['Bearer old', 'Bearer new']);
    // A new token needs no new connection.
    expect(api.connections).toBe(1);
  });

  it('that is still not taken is no reason to read it at every call', async () => {
    const { client } = clientOf([connectionTo(api)]);
    for (let n = 0; n < 4; n++) api.failNext('other', (_, response) => refuse(response, 401, 'Unauthorized'));
    for (let n = 0; n < 3; n++) {
      await expect(client.call(GET, never)).rejects.toMatchObject({ reason: 'AuthenticationFailed' });
    }
    expect(api.seen).toHaveLength(4);
  });

  it('opens a watch too', async () => {
    const { client } = clientOf([connectionTo(api, 'old'), connectionTo(api, 'new')]);
    api.failNext('watch', (_, response) => refuse(response, 401, 'Unauthorized'));
    const controller = new AbortController();
    await client.watch(FaultyKubeApi.path, { watch: 1, resourceVersion: '1' }, controller.signal);
    expect(api.seen.at(-1)?.headers.authorization).toBe('Bearer new');
    controller.abort();
  });
});

describe('a watch', () => {
  it('has a connection of its own, which ends with it', async () => {
    const api = await FaultyKubeApi.open();
    onTestFinished(() => api.close());
    const { client } = clientOf([connectionTo(api)]);
    const controller = new AbortController();
    const stream = await client.watch(FaultyKubeApi.path, { watch: 1, resourceVersion: '1' }, controller.signal);
    const closed = new Promise((resolve) => stream.on('error', () => undefined).on('close', resolve));
    await client.call(GET, never);
    expect(api.connections).toBe(2);
    controller.abort();
    await closed;
    await eventually(() => expect([api.watches.size, api.openConnections]).toEqual([0, 1]));
  });

  it('that nobody answers ends after 30 s', async () => {
    const api = await FaultyKubeApi.open();
    onTestFinished(() => api.close());
    const clock = new FakeClock();
    const { client } = clientOf([connectionTo(api)], clock);
    api.failNext('watch', () => undefined);
    const ended = client.watch(FaultyKubeApi.path, { watch: 1 }, never).catch((error: unknown) => error);
    await eventually(() => expect(api.seen).toHaveLength(1));
    await clock.advance(30_000);
    expect(await ended).toMatchObject({ reason: 'Unreachable' });
    await eventually(() => expect(api.openConnections).toBe(0));
  });
});

describe.skipIf(!hasOpenssl())('TLS (needs openssl)', () => {
  it('50 calls make 1 connection one after the other, and 16 at once', async () => {
    const authority = await TestAuthority.create();
    const api = await FaultyKubeApi.open({ tls: await authority.certify('IP:127.0.0.1') });
    onTestFinished(() => api.close());
    const { client } = clientOf([connectionTo(api, 't', { ca: await readFile(authority.caFile, 'utf8') })]);
    for (let n = 0; n < 50; n++) await client.call(GET, never);
    expect(api.connections).toBe(1);
    await Promise.all(Array.from({ length: 50 }, () => client.call(GET, never)));
    expect(api.connections).toBe(16);
    expect(api.seen).toHaveLength(100);
  });

  it('a new authority is believed without a restart, and what was under way ends as it would', async () => {
    const [old, next] = [await TestAuthority.create(), await TestAuthority.create()];
    const [oldCa, nextCa] = [await readFile(old.caFile, 'utf8'), await readFile(next.caFile, 'utf8')];
    const api = await FaultyKubeApi.open({ tls: await old.certify('IP:127.0.0.1') });
    onTestFinished(() => api.close());
    const { client } = clientOf([connectionTo(api, 't', { ca: oldCa }), connectionTo(api, 't', { ca: nextCa })]);
    let finish: (() => void) | undefined;
    api.failNext('other', (_, response) => (finish = () => answerJson(response, 200, { slow: true })));
    const underWay = client.call(GET, never);
    await eventually(() => expect(finish).toBeDefined());
    api.setTls(await next.certify('IP:127.0.0.1'));
    // The one connection there is is in use, so this call makes another one, and that shows the new certificate.
    await client.call(GET, never);
    expect(api.connections).toBe(2);
    finish?.();
    expect(await underWay).toEqual({ slow: true });
    await eventually(() => expect(api.openConnections).toBe(1));
    await client.call(GET, never);
    expect(api.connections).toBe(2);
  });

  it('what is under way with a former certificate ends when the client is closed', async () => {
    const authority = await TestAuthority.create();
    const ca = await readFile(authority.caFile, 'utf8');
    const api = await FaultyKubeApi.open({ tls: await authority.certify('IP:127.0.0.1') });
    onTestFinished(() => api.close());
    const { client } = clientOf([connectionTo(api, 'old', { ca }), connectionTo(api, 'new', { ca: `${ca}\n` })]);
    api.failNext('other', () => undefined);
    const underWay = client.call(GET, never).catch((error: unknown) => error);
    await eventually(() => expect(api.seen).toHaveLength(1));
    api.failNext('other', (_, response) => refuse(response, 401, 'Unauthorized'));
    await client.call(GET, never);
    client.close();
    expect(await underWay).toMatchObject({ reason: 'Unreachable' });
    await eventually(() => expect(api.openConnections).toBe(0));
  });

  it('a certificate that nobody vouches for is AuthenticationFailed', async () => {
    const [ours, theirs] = [await TestAuthority.create(), await TestAuthority.create()];
    const api = await FaultyKubeApi.open({ tls: await theirs.certify('IP:127.0.0.1') });
    onTestFinished(() => api.close());
    const { client } = clientOf([connectionTo(api, 't', { ca: await readFile(ours.caFile, 'utf8') })]);
    await expect(client.call(PATCH, never)).rejects.toMatchObject({ reason: 'AuthenticationFailed' });
    expect(api.seen).toEqual([]);
  });
});
