import type { ServerResponse } from 'node:http';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { withoutBulk, type KubeObject } from '../../../../src/adapters/kube/kube-object.ts';
import { Reflector, type ReflectorOptions } from '../../../../src/adapters/kube/reflector.ts';
import { eventually } from '../../../support/eventually.ts';
import { settle } from '../../../support/fake-clock.ts';
import { answerJson, FaultyKubeApi, refuse, type OpenWatch } from '../../../support/faulty-kube-api.ts';
import { HastyClock } from '../../../support/hasty-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics } from '../../../support/recording-metrics.ts';

let api: FaultyKubeApi;
let clock: HastyClock;
let client: KubeClient;
let metrics: ReturnType<typeof recordingMetrics>;
let logger: RecordingLogger;
let news: string[];
let stop: AbortController;
let running: Promise<void>;

beforeEach(async () => {
  api = await FaultyKubeApi.open();
  clock = new HastyClock();
  // No jitter, so that every time is the shortest there may be.
  clock.setRandom(() => 0);
  metrics = recordingMetrics();
  logger = new RecordingLogger();
  const connection = { server: new URL(`http://127.0.0.1:${api.port}`), tls: {}, headers: {}, namespace: undefined };
  const access = new KubeAccess({ open: () => Promise.resolve(() => Promise.resolve(connection)), clock });
  client = new KubeClient({ access, clock });
  news = [];
  stop = new AbortController();
  running = Promise.resolve();
});
afterEach(async () => {
  stop.abort();
  await running;
  client.close();
  await api.close();
  // Whatever was begun has ended.
  expect(clock.pendingTimers).toBe(0);
});

/** The copy holds the spec, and a change of it is told as `added alice 1`, with `list` where a list told it. */
function start(options: Partial<ReflectorOptions<unknown>> = {}): Reflector<unknown> {
  const reflector = new Reflector<unknown>({
    resource: 'workspaces',
    collection: { path: FaultyKubeApi.path },
    client,
    transform: (object) => (object as KubeObject & { spec: unknown }).spec,
    onChange: (change, cause) => {
      const name = change.key.replace('team-a/', '');
      const spec = change.kind === 'gone' ? (change.isTombstone ? 'tombstone' : 'seen') : String(change.object);
      news.push([change.kind, name, spec, ...(cause === 'list' ? [cause] : [])].join(' '));
    },
    logger,
    metrics,
    ...options,
  });
  running = reflector.run(stop.signal);
  return reflector;
}

/** The watch that stands now, when there have been so many. */
async function watchNumber(count: number): Promise<OpenWatch> {
  return await eventually(() => {
    expect(api.seenOf('watch')).toHaveLength(count);
    const [watch] = api.watches;
    expect(watch).toBeDefined();
    return watch as OpenWatch;
  });
}

async function expectNews(wanted: readonly string[]): Promise<void> {
  await eventually(() => expect(news).toEqual(wanted));
}

/** With a bookmark each, as a healthy server sends them. */
async function minutesPass(reflector: Reflector<unknown>, minutes: number): Promise<void> {
  for (let n = 0; n < minutes; n++) {
    api.bookmark();
    await eventually(() => expect(reflector.state().silentSeconds).toBe(0));
    await clock.advance(60_000);
  }
}

const EMPTY = { metadata: { resourceVersion: '100' }, items: [] };

function ends(): readonly unknown[] {
  return metrics.argsOf('kubeWatchEnded').map(([, end]) => end);
}

describe('a reflector', () => {
  it('lists in pages, then watches from where the list was, with bookmarks and an end', async () => {
    for (let n = 0; n < 5; n++) api.put(`w${n}`, n);
    const reflector = start({ pageSize: 2 });
    expect(reflector.hasSynced).toBe(false);
    await reflector.whenSynced(stop.signal);
    await watchNumber(1);

    expect(news).toEqual([0, 1, 2, 3, 4].map((n) => `added w${n} ${n} list`));
    expect(reflector.get('team-a/w3')).toBe(3);
    expect(api.seenOf('list').map(({ query }) => query)).toEqual([
      { limit: '2' },
      { limit: '2', continue: '105 2' },
      { limit: '2', continue: '105 4' },
    ]);
    expect(api.seenOf('watch')[0]?.query).toEqual({
      watch: '1',
      allowWatchBookmarks: 'true',
      resourceVersion: '105',
      timeoutSeconds: '300',
    });
    expect(reflector.state()).toMatchObject({ resource: 'workspaces', objects: 5, isSynced: true, silentSeconds: 0 });
    expect(metrics.argsOf('kubeListed')).toEqual([['workspaces', 'ok', 0]]);
    await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toEqual([['workspaces']]));
  });

  it('asks for 500 at a time, with its selector in lists and watches', async () => {
    start({ collection: { path: FaultyKubeApi.path, query: { labelSelector: 'shard=1' } } });
    await watchNumber(1);
    expect(api.seenOf('list')[0]?.query).toEqual({ labelSelector: 'shard=1', limit: '500' });
    expect(api.seenOf('watch')[0]?.query).toMatchObject({ labelSelector: 'shard=1' });
  });

  it('tells additions, changes and deletions as they happen', async () => {
    const reflector = start();
    await watchNumber(1);
    api.put('alice', 1);
    api.put('alice', 2);
    api.delete('alice');
    await expectNews(['added alice 1', 'changed alice 2', 'gone alice seen']);
    expect([...reflector.values()]).toEqual([]);
  });

  it('sees who wrote which field, and need not keep that, nor a copy of what was applied', async () => {
    const metadata = { name: 'alice', namespace: 'team-a', uid: 'a', resourceVersion: '200', labels: { org: 'acme' } };
    const bulk = {
      managedFields: [{ manager: 'kubectl' }],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': '{}', mine: 'yes' },
    };
    const reflector = start({
      transform: (object) => ({ ...withoutBulk(object), writers: object.metadata.managedFields?.length }),
    });
    const watch = await watchNumber(1);
    watch.send('ADDED', { metadata: { ...metadata, ...bulk }, spec: 1 });
    const kept = { metadata: { ...metadata, annotations: { mine: 'yes' } }, spec: 1, writers: 1 };
    await eventually(() => expect(reflector.get('team-a/alice')).toEqual(kept));
  });

  it('begins the list again when the server forgets its moment on the way', async () => {
    for (let n = 0; n < 3; n++) api.put(`w${n}`, n);
    api.failNext('list', (_, response) => {
      api.failNext('list', (__, next) => refuse(next, 410, 'Expired'));
      response.end(JSON.stringify({ metadata: { resourceVersion: '50', continue: 'x' }, items: [] }));
    });
    start();
    await watchNumber(1);
    expect(news).toHaveLength(3);
    expect(metrics.argsOf('kubeListed').map(([, outcome]) => outcome)).toEqual(['expired', 'ok']);
    expect(clock.pauses).toEqual([]);
  });

  it.each([
    ['an error', (response: ServerResponse) => refuse(response, 500, 'InternalError')],
    ['no list', (response: ServerResponse) => void response.end('{"kind": "Status"}')],
    [
      'items that are no objects',
      (response: ServerResponse) => void response.end('{"metadata":{"resourceVersion":"1"},"items":[{}]}'),
    ],
    [
      'half of it',
      (response: ServerResponse) =>
        response.writeHead(200, { 'content-length': 99 }).write('{', () => response.destroy()),
    ],
  ])('takes %s for no list, and nobody for gone', async (_, answer) => {
    api.put('alice', 1);
    const reflector = start();
    const watch = await watchNumber(1);
    api.compact();
    api.failNext('list', (__, response) => answer(response));
    watch.response.destroy();
    await watchNumber(3);
    expect(reflector.get('team-a/alice')).toBe(1);
    expect(news).toEqual(['added alice 1 list']);
  });

  it('is not synced before the first list, and says at once why there is none', async () => {
    let answer: (() => void) | undefined;
    api.failNext('list', (_, response) => refuse(response, 403, 'Forbidden'));
    api.failNext('list', (_, response) => (answer = () => answerJson(response, 200, EMPTY)));
    const reflector = start();
    const refusal = { reason: 'AccessDenied', message: expect.stringContaining('HTTP 403 Forbidden') as string };
    await expect(reflector.whenSynced(stop.signal)).rejects.toMatchObject(refusal);
    await eventually(() => expect(answer).toBeDefined());
    // Another list is under way; it is known by now why there is none yet.
    await expect(reflector.whenSynced(stop.signal)).rejects.toMatchObject(refusal);
    expect(reflector.hasSynced).toBe(false);
    answer?.();
    await eventually(() => expect(reflector.hasSynced).toBe(true));
    await reflector.whenSynced(stop.signal);
  });

  it('is not synced by a list that goes on and on, and says so after two minutes', async () => {
    const page = { ...EMPTY, metadata: { resourceVersion: '1', continue: 'more' } };
    const pages: (() => void)[] = [];
    for (let n = 0; n < 4; n++)
      api.failNext('list', (_, response) => pages.push(() => answerJson(response, 200, page)));
    const reflector = start();
    const synced = reflector.whenSynced(stop.signal).catch((error: unknown) => error);
    for (let n = 1; n <= 3; n++) {
      await eventually(() => expect(pages).toHaveLength(n));
      await clock.advance(40_000);
      pages[n - 1]?.();
    }
    expect(await synced).toMatchObject({
      class: 'transient',
      reason: 'Unreachable',
      message: 'the first list of workspaces has not come within 120 s',
    });
  });

  it('has a callback that throws, and goes on', async () => {
    const reflector = start({
      onChange: (change) => {
        news.push(change.key);
        throw new Error('not so simple');
      },
    });
    await watchNumber(1);
    api.put('alice', 1);
    api.put('bob', 2);
    await expectNews(['team-a/alice', 'team-a/bob']);
    expect(reflector.get('team-a/bob')).toBe(2);
    expect(logger.at('error').map(({ fields }) => fields['key'])).toEqual(['team-a/alice', 'team-a/bob']);
  });
});

/** Each ends the watch that stands. What the server does by itself has no name of a fault. */
const ENDS: readonly (readonly [string, string, (watch: OpenWatch) => void | Promise<void>])[] = [
  ['an end by the server', 'closed', ({ response }) => void response.end()],
  ['half an event, and an end', 'closed', ({ response }) => void response.end('{"type":"ADD')],
  ['a reset', 'broken', ({ response }) => void response.socket?.resetAndDestroy()],
  ['a connection that breaks off', 'broken', ({ response }) => void response.destroy()],
  [
    'a fault told in between',
    'failed',
    (watch) => watch.send('ERROR', { kind: 'Status', code: 500, message: 'etcdserver: leader changed' }),
  ],
  ['what is no JSON', 'unreadable', ({ response }) => void response.write('hello\n')],
  [
    'an event of an object without a name',
    'unreadable',
    (watch) => watch.send('ADDED', { metadata: { resourceVersion: '999' } }),
  ],
  ['silence', 'silent', () => clock.advance(70_000)],
  [
    'half an event, and silence',
    'silent',
    async ({ response }) => {
      response.write('{"type":');
      await clock.advance(70_000);
    },
  ],
];

describe('the end of a watch', () => {
  it.each(ENDS)('by %s (%s) is followed by another watch that misses nothing', async (_, end, fault) => {
    start();
    const first = await watchNumber(1);
    api.put('alice', 1);
    await expectNews(['added alice 1']);
    const version = api.version;
    await fault(first);
    await eventually(() => expect(ends()).toEqual([end]));
    await eventually(() => expect(api.watches.has(first)).toBe(false));
    const second = await watchNumber(2);
    // What cannot be read may hide anything, and so may silence; else the watch goes on where it was.
    await eventually(() =>
      expect(
        api
          .seenOf('list')
          .slice(1)
          .map(({ query }) => query['resourceVersion']),
      ).toEqual({ unreadable: [undefined], silent: [version] }[end] ?? []),
    );
    expect(second.request.query['resourceVersion']).toBe(version);
    api.put('alice', 2);
    await expectNews(['added alice 1', 'changed alice 2']);
    expect(clock.pauses).toHaveLength(0);
  });

  it('never begins anew with what happened while nobody listened', async () => {
    start();
    const first = await watchNumber(1);
    first.response.destroy();
    api.put('alice', 1);
    api.put('alice', 2);
    await expectNews(['added alice 1', 'changed alice 2']);
  });

  it('is put off longer each time, up to 30 s, and what the log hears of it is one line', async () => {
    clock.setRandom(() => 0.5);
    start();
    for (let count = 1; count <= 9; count++) (await watchNumber(count)).response.destroy();
    await watchNumber(10);
    expect(clock.pauses).toEqual([400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000, 15_000]);
    expect(logger.at('warn').map(({ message }) => message)).toEqual([
      'the Kubernetes API is not heard; trying again until it is',
    ]);
    expect(logger.at('info').map(({ message }) => message)).toEqual(['the Kubernetes API is watched again']);
  });

  it('of one that lived for two minutes begins a new row', async () => {
    clock.setRandom(() => 0.5);
    const reflector = start();
    for (let count = 1; count <= 5; count++) (await watchNumber(count)).response.destroy();
    const healthy = await watchNumber(6);
    await minutesPass(reflector, 2);
    healthy.response.destroy();
    await watchNumber(7);
    expect(clock.pauses.slice(4)).toEqual([6_400, 400]);
  });

  it.each([
    ['HTTP 429', 'throttled', (response: ServerResponse) => void response.writeHead(429, { 'retry-after': '3' }).end()],
    ['HTTP 503', 'failed', (response: ServerResponse) => void response.writeHead(503, { 'retry-after': '3' }).end()],
    [
      '429 told in between',
      'throttled',
      (response: ServerResponse) =>
        response.end(
          `${JSON.stringify({ type: 'ERROR', object: { code: 429, details: { retryAfterSeconds: 3 } } })}\n`,
        ),
    ],
  ])('by %s is followed by as long a pause as it asks for', async (_, end, answer) => {
    start();
    const first = await watchNumber(1);
    api.failNext('watch', (__, response) => answer(response));
    first.response.destroy();
    await watchNumber(3);
    expect(ends()).toEqual(['broken', end]);
    expect(clock.pauses).toEqual([3_000]);
  });

  it('by a credential that is not taken any more is an end like any other', async () => {
    start();
    const first = await watchNumber(1);
    for (let n = 0; n < 2; n++) api.failNext('watch', (_, response) => refuse(response, 401, 'Unauthorized'));
    first.response.destroy();
    await watchNumber(4);
    expect(ends()).toEqual(['broken', 'refused']);
  });

  it.each(['by HTTP', 'in between'])('with 410 %s leads to a list; who is not on it is gone', async (how) => {
    for (const name of ['alice', 'bob']) api.put(name, 1);
    start();
    const first = await watchNumber(1);
    api.delete('alice', 'silently');
    if (how === 'by HTTP') {
      api.compact();
      first.response.destroy();
    } else {
      first.send('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: 'too old resource version' });
    }
    await expectNews(['added alice 1 list', 'added bob 1 list', 'gone alice tombstone list']);
    await watchNumber(how === 'by HTTP' ? 3 : 2);
    expect(ends().at(-1)).toBe('expired');
    expect(api.seenOf('list')).toHaveLength(2);
    // A gap that is known is no miss.
    expect(metrics.argsOf('kubeMissed')).toEqual([]);
  });

  it('by an event longer than any may be leads to a list, and goes on behind it', async () => {
    start();
    const first = await watchNumber(1);
    const giant = api.put('giant', 1);
    first.send('MODIFIED', { ...giant, spec: 'x'.repeat(17 * 1024 * 1024) });
    await eventually(() => expect(ends()).toEqual(['unreadable']));
    await watchNumber(2);
    api.put('alice', 1);
    await eventually(() => expect(news.at(-1)).toBe('added alice 1'));
  });
});

describe('a watch', () => {
  it('is alive by bookmarks alone, and goes on from the newest', async () => {
    const reflector = start();
    const first = await watchNumber(1);
    for (let n = 0; n < 5; n++) {
      await clock.advance(60_000);
      expect(reflector.state().silentSeconds).toBe(60);
      api.bookmark();
      await eventually(() => expect(reflector.state().silentSeconds).toBe(0));
    }
    expect(ends()).toEqual([]);
    first.response.end();
    const second = await watchNumber(2);
    expect(second.request.query['resourceVersion']).toBe(api.version);
  });

  it('has a length of its own each time, of 5 to 10 minutes', async () => {
    start();
    for (const [index, chance] of [0.5, 0.999].entries()) {
      const { response } = await watchNumber(index + 1);
      clock.setRandom(() => chance);
      response.destroy();
    }
    await watchNumber(3);
    expect(api.seenOf('watch').map(({ query }) => query['timeoutSeconds'])).toEqual(['300', '450', '600']);
  });

  it('takes an event that comes twice for one, and an older one for none', async () => {
    start();
    const watch = await watchNumber(1);
    const old = api.put('alice', 1);
    api.put('alice', 2);
    watch.send('MODIFIED', old);
    watch.send('ADDED', old);
    api.delete('alice');
    watch.send('MODIFIED', old);
    api.put('bob', 1);
    await expectNews(['added alice 1', 'changed alice 2', 'gone alice seen', 'added bob 1']);
  });

  it('takes a deletion that comes late for that of the former one', async () => {
    const reflector = start();
    const watch = await watchNumber(1);
    const former = api.put('alice', 1);
    watch.send('ADDED', { metadata: { ...former.metadata, uid: 'next', resourceVersion: '998' }, spec: 2 });
    watch.send('DELETED', { metadata: { ...former.metadata, resourceVersion: '997' } });
    api.put('bob', 1);
    await expectNews(['added alice 1', 'gone alice tombstone', 'added alice 2', 'added bob 1']);
    expect(reflector.get('team-a/alice')).toBe(2);
  });

  it('leaves out events of kinds that it does not know', async () => {
    start();
    const watch = await watchNumber(1);
    watch.send('SUMMARY', { metadata: {} });
    api.put('alice', 1);
    await expectNews(['added alice 1']);
    expect(ends()).toEqual([]);
  });

  it('has a character that comes in two pieces', async () => {
    start();
    const { response } = await watchNumber(1);
    const object = { metadata: { name: 'zoë', namespace: 'team-a', uid: 'z', resourceVersion: '900' }, spec: '🧩' };
    const bytes = Buffer.from(`${JSON.stringify({ type: 'ADDED', object })}\n`);
    const cut = bytes.indexOf(Buffer.from('🧩')) + 2;
    response.write(bytes.subarray(0, cut));
    await settle();
    response.write(bytes.subarray(cut));
    await expectNews(['added zoë 🧩']);
  });
});

describe('a list of what the watch has told', () => {
  it('finds what was missed, counts it, puts it right, and goes on watching', async () => {
    for (const name of ['alice', 'bob']) api.put(name, 1);
    const reflector = start();
    await watchNumber(1);
    api.delete('alice', 'silently');
    api.put('bob', 2);
    await minutesPass(reflector, 10);
    await expectNews(['added alice 1 list', 'added bob 1 list', 'changed bob 2', 'gone alice tombstone list']);
    await watchNumber(2);
    expect(ends()).toEqual(['relist']);
    expect(metrics.argsOf('kubeMissed')).toEqual([['workspaces', 1]]);
    expect(logger.at('warn').map(({ fields }) => fields['missed'])).toEqual([1]);
    api.put('bob', 3);
    await eventually(() => expect(news.at(-1)).toBe('changed bob 3'));
    // One that found it, and one of now. Ten minutes after that the next one is due, and finds nothing.
    await minutesPass(reflector, 9);
    expect(api.seenOf('list')).toHaveLength(3);
    await minutesPass(reflector, 1);
    await eventually(() => expect(metrics.argsOf('kubeMissed')).toHaveLength(2));
    expect([api.seenOf('list').length, ends()]).toEqual([4, ['relist']]);
  });

  it('is read beside the watch, which tells all the while and is not ended for it', async () => {
    api.put('alice', 1);
    const reflector = start();
    const watch = await watchNumber(1);
    let answer: (() => void) | undefined;
    const { version } = api;
    api.failNext('list', (_, response) => {
      const alice = { metadata: { name: 'alice', namespace: 'team-a', uid: 'uid-1', resourceVersion: '101' } };
      answer = () => answerJson(response, 200, { metadata: { resourceVersion: version }, items: [alice] });
    });
    await minutesPass(reflector, 10);
    await eventually(() => expect(answer).toBeDefined());
    api.put('alice', 2);
    api.put('bob', 1);
    await expectNews(['added alice 1 list', 'changed alice 2', 'added bob 1']);
    answer?.();
    await eventually(() => expect(metrics.argsOf('kubeMissed')).toEqual([['workspaces', 0]]));
    expect([ends(), api.watches.has(watch)]).toEqual([[], true]);
  });

  it('that the end of the watch breaks off is read beside the next one', async () => {
    const reflector = start();
    const watch = await watchNumber(1);
    api.failNext('list', () => undefined);
    await minutesPass(reflector, 10);
    await eventually(() => expect(api.seenOf('list')).toHaveLength(2));
    watch.response.end();
    await watchNumber(2);
    await eventually(() => expect(metrics.argsOf('kubeMissed')).toEqual([['workspaces', 0]]));
    expect(api.seenOf('list')).toHaveLength(3);
  });

  it('is of the very version that was heard last: what happens meanwhile is no miss', async () => {
    const reflector = start();
    await watchNumber(1);
    await minutesPass(reflector, 9);
    api.bookmark();
    const heard = api.version;
    await eventually(() => expect(reflector.state().silentSeconds).toBe(0));
    api.failNext('list', (_, response) => {
      api.put('alice', 1);
      response.end(JSON.stringify({ metadata: { resourceVersion: heard }, items: [] }));
    });
    await clock.advance(60_000);
    await expectNews(['added alice 1']);
    expect(api.seenOf('list').at(-1)?.query).toEqual({
      limit: '500',
      resourceVersion: heard,
      resourceVersionMatch: 'Exact',
    });
    expect(metrics.argsOf('kubeMissed')).toEqual([['workspaces', 0]]);
  });

  it.each([
    ['too old', (response: ServerResponse) => refuse(response, 410, 'Expired')],
    [
      'of the future',
      (response: ServerResponse) =>
        refuse(response, 504, 'Timeout', { causes: [{ reason: 'ResourceVersionTooLarge' }] }),
    ],
    ['nothing that the server can tell', (response: ServerResponse) => refuse(response, 400, 'BadRequest')],
  ])('is one of now where that version is %s', async (_, answer) => {
    api.put('alice', 1);
    const reflector = start();
    await watchNumber(1);
    api.delete('alice', 'silently');
    api.failNext('list', (__, response) => answer(response));
    await minutesPass(reflector, 10);
    await expectNews(['added alice 1 list', 'gone alice tombstone list']);
    await watchNumber(2);
    expect(api.seenOf('list').at(-1)?.query).toEqual({ limit: '500' });
    // Nobody can tell any more what the watch should have told.
    expect(metrics.argsOf('kubeMissed')).toEqual([]);
  });

  it('that fails is tried again a minute later; the watch goes on where it was', async () => {
    const reflector = start();
    await watchNumber(1);
    api.failNext('list', (_, response) => refuse(response, 500, 'InternalError'));
    await minutesPass(reflector, 10);
    const outcomes = (): readonly unknown[] => metrics.argsOf('kubeListed').map(([, outcome]) => outcome);
    await eventually(() => expect(outcomes()).toEqual(['ok', 'error']));
    await minutesPass(reflector, 1);
    await eventually(() => expect(outcomes()).toEqual(['ok', 'error', 'ok']));
    expect(ends()).toEqual([]);
  });
});

describe('a version of the future', () => {
  it('after a restored database is found out by a bookmark, and a list is the truth', async () => {
    api.put('alice', 1);
    start();
    const watch = await watchNumber(1);
    watch.send('ADDED', { metadata: { name: 'bob', namespace: 'team-a', uid: 'b', resourceVersion: '5000' }, spec: 1 });
    api.bookmark();
    await expectNews(['added alice 1 list', 'added bob 1', 'gone bob tombstone list']);
    // Of the watch between them nothing came but the list that was refused.
    expect((await watchNumber(3)).request.query['resourceVersion']).toBe(api.version);
    expect(clock.pauses).toEqual([]);
  });

  it('after a restored database is found out by silence, and a list is the truth', async () => {
    api.put('alice', 1);
    const reflector = start();
    const watch = await watchNumber(1);
    watch.send('ADDED', { metadata: { name: 'bob', namespace: 'team-a', uid: 'b', resourceVersion: '5000' }, spec: 1 });
    await eventually(() => expect(reflector.get('team-a/bob')).toBe(1));
    watch.response.destroy();
    await watchNumber(2);
    await clock.advance(70_000);
    await expectNews(['added alice 1 list', 'added bob 1', 'gone bob tombstone list']);
    expect((await watchNumber(4)).request.query['resourceVersion']).toBe(api.version);
  });
});

describe('a refresh', () => {
  it('ends the watch for a list, which may be newer than what it told, and goes on behind it', async () => {
    const reflector = start();
    await watchNumber(1);
    api.put('alice', 1);
    await expectNews(['added alice 1']);
    api.delete('alice', 'silently');
    await reflector.refresh(stop.signal);
    expect(reflector.get('team-a/alice')).toBeUndefined();
    expect([ends(), api.seenOf('list').at(-1)?.query]).toEqual([['relist'], { limit: '500' }]);
    // What a list of now tells is no miss.
    expect(metrics.argsOf('kubeMissed')).toEqual([]);
    expect((await watchNumber(2)).request.query['resourceVersion']).toBe(api.version);
    expect(clock.pauses).toEqual([]);
  });

  it('takes no list that was begun before it, and shares the one that is begun after it', async () => {
    const reflector = start();
    await watchNumber(1);
    const old: (() => void)[] = [];
    api.failNext('list', (_, response) => old.push(() => answerJson(response, 200, EMPTY)));
    const first = reflector.refresh(stop.signal);
    await eventually(() => expect(old).toHaveLength(1));
    api.put('alice', 1);
    const later = Promise.all([reflector.refresh(stop.signal), reflector.refresh(stop.signal)]);
    old[0]?.();
    await first;
    expect(reflector.get('team-a/alice')).toBeUndefined();
    await later;
    expect(reflector.get('team-a/alice')).toBe(1);
    expect(api.seenOf('list')).toHaveLength(3);
  });

  it('that fails says why; the copy stands and is watched, and the next one reads a list', async () => {
    api.put('alice', 1);
    const reflector = start();
    await watchNumber(1);
    api.delete('alice', 'silently');
    api.failNext('list', (_, response) => response.writeHead(429, { 'retry-after': '3' }).end());
    await expect(reflector.refresh(stop.signal)).rejects.toMatchObject({ reason: 'Throttled', retryAfterMs: 3_000 });
    expect(clock.pauses).toEqual([3_000]);
    await watchNumber(2);
    await reflector.refresh(stop.signal);
    expect(reflector.get('team-a/alice')).toBeUndefined();
  });

  it('is not waited for by who gave up, nor when nobody watches any more', async () => {
    const reflector = start();
    await watchNumber(1);
    api.failNext('list', () => undefined);
    const gaveUp = new AbortController();
    const hasty = reflector.refresh(gaveUp.signal).catch((error: unknown) => error);
    gaveUp.abort(new Error('enough'));
    expect(await hasty).toMatchObject({ message: 'enough' });
    const patient = reflector.refresh(new AbortController().signal).catch((error: unknown) => error);
    stop.abort();
    expect(await patient).toMatchObject({ class: 'aborted' });
  });
});

describe('a write of our own', () => {
  it('is waited for until the watch tells it, or has come past it', async () => {
    const reflector = start();
    const watch = await watchNumber(1);
    let isThere = false;
    const next = String(Number(api.version) + 1);
    const there = reflector.until(next, stop.signal, 5_000).then((answer) => (isThere = answer));
    api.put('alice', 1);
    await there;
    expect([isThere, reflector.get('team-a/alice')]).toEqual([true, 1]);
    expect(await reflector.until(next, stop.signal, 5_000)).toBe(true);
    const far = reflector.until('2000', stop.signal, 5_000);
    watch.send('BOOKMARK', { metadata: { resourceVersion: '10000' } });
    expect(await far).toBe(true);
  });

  it('that is not heard of in time is not there; nor does who gave up wait', async () => {
    const reflector = start();
    await watchNumber(1);
    const never = reflector.until('10000', stop.signal, 5_000);
    await clock.advance(5_000);
    expect(await never).toBe(false);
    const gaveUp = new AbortController();
    const hasty = reflector.until('10000', gaveUp.signal, 5_000).catch((error: unknown) => error);
    gaveUp.abort(new Error('enough'));
    expect(await hasty).toMatchObject({ message: 'enough' });
  });

  it('stays heard of though older news comes after it', async () => {
    const reflector = start();
    const watch = await watchNumber(1);
    const old = api.put('alice', 1);
    api.put('alice', 2);
    const { version } = api;
    expect(await reflector.until(version, stop.signal, 5_000)).toBe(true);
    watch.send('MODIFIED', old);
    api.put('bob', 1);
    await expectNews(['added alice 1', 'changed alice 2', 'added bob 1']);
    expect(await reflector.until(version, stop.signal, 5_000)).toBe(true);
  });
});

describe('to be heard of', () => {
  it('for five minutes nothing while every try fails is known, and no reason to start anew', async () => {
    const reflector = start();
    const first = await watchNumber(1);
    // With the pauses after them, 350 s: 0.8, 1.6, 3.2, 6.4, 12.8, 25.6 and ten times 30.
    const heard = new Set<boolean>();
    for (let n = 0; n < 15; n++) {
      api.failNext('watch', (_, response) => {
        heard.add(reflector.isHeard);
        refuse(response, 500, 'InternalError');
      });
    }
    clock.setRandom(() => 0.999);
    expect([reflector.outdated(), reflector.isHeard]).toEqual([undefined, true]);
    first.response.destroy();
    await watchNumber(17);
    expect([...heard]).toEqual([false]);
    expect(reflector.outdated()).toMatch(/^nothing was heard of workspaces for 350 s: GET .* HTTP 500 InternalError/);
    expect(reflector.problem()).toBeUndefined();
    api.bookmark();
    await eventually(() => expect(reflector.outdated()).toBeUndefined());
    expect(reflector.isHeard).toBe(true);
  });

  it('while nothing is tried either is a process that hangs', async () => {
    let letGo: (error: Error) => void = () => undefined;
    const call = (): Promise<unknown> => new Promise((_, reject) => (letGo = reject));
    const reflector = start({ client: { clock, call } as unknown as KubeClient });
    await clock.advance(299_000);
    expect(reflector.problem()).toBeUndefined();
    await clock.advance(1_000);
    expect(reflector.problem()).toBe('the watch of workspaces hangs: nothing was heard or tried for 300 s');
    stop.abort();
    letGo(new Error('at last'));
    await running;
    expect(reflector.problem()).toBeUndefined();
  });
});

describe('a run', () => {
  it.each(['list', 'watch'] as const)('ends at once in the middle of a %s that nobody answers', async (kind) => {
    api.failNext(kind, () => undefined);
    start();
    await eventually(() => expect(api.seenOf(kind)).toHaveLength(1));
    stop.abort();
    await running;
    await eventually(() => expect(kind === 'watch' ? api.openConnections - 1 : api.openConnections).toBe(0));
    expect(metrics.argsOf('kubeWatchEnded')).toEqual([]);
  });

  it('after another one finds what happened in between, and keeps the copy until then', async () => {
    for (const name of ['alice', 'bob']) api.put(name, 1);
    const reflector = start();
    await watchNumber(1);
    stop.abort();
    await running;
    await eventually(() => expect(api.watches.size).toBe(0));
    api.delete('alice');
    expect(reflector.get('team-a/alice')).toBe(1);
    stop = new AbortController();
    running = reflector.run(stop.signal);
    await expectNews(['added alice 1 list', 'added bob 1 list', 'gone alice tombstone list']);
  });
});
