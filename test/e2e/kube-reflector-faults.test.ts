import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { inClusterConnection } from '../../src/adapters/kube/in-cluster.ts';
import { KubeAccess } from '../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../src/adapters/kube/kube-client.ts';
import type { ReadConnection } from '../../src/adapters/kube/kube-connection.ts';
import type { KubeObject } from '../../src/adapters/kube/kube-object.ts';
import { Reflector } from '../../src/adapters/kube/reflector.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { refuse } from '../support/faulty-kube-api.ts';
import { HastyClock } from '../support/hasty-clock.ts';
import { Cluster, type ClusterError } from '../support/kube/cluster.ts';
import { MeddlingApi, type Meddle } from '../support/kube/meddling-api.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';

interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

await withBackend('kubernetes', (directory) => {
  describe('a reflector of a real API server', () => {
    let cluster: Cluster;
    let namespace: string;
    let clock: HastyClock;
    let metrics: ReturnType<typeof recordingMetrics>;
    let stop: AbortController;
    let running: Promise<void>;
    let declared: Map<string, string>;
    /** The versions that were told of each key, in their order. */
    let told: Map<string, number[]>;
    const closers: (() => unknown)[] = [];

    beforeAll(async () => {
      cluster = await Cluster.at(directory);
    });
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      clock = new HastyClock();
      clock.setRandom(() => 0.5);
      metrics = recordingMetrics();
      stop = new AbortController();
      running = Promise.resolve();
      declared = new Map();
      told = new Map();
    });
    afterEach(async () => {
      stop.abort();
      await running;
      for (const close of closers.splice(0)) await close();
      await removeNamespace(cluster, namespace);
    });

    const collection = (): string => `/api/v1/namespaces/${namespace}/configmaps`;

    async function put(name: string, value: string): Promise<void> {
      await cluster.call('PATCH', `${collection()}/${name}?fieldManager=test&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels: { ours: 'yes' } }, data: { value } },
      });
      declared.set(name, value);
    }

    async function remove(name: string): Promise<void> {
      await cluster.call('DELETE', `${collection()}/${name}`);
      declared.delete(name);
    }

    async function meddlingApi(): Promise<MeddlingApi> {
      const api = await MeddlingApi.open(cluster);
      closers.push(() => api.close());
      return api;
    }

    const asAdmin = ({ server }: MeddlingApi): ReadConnection => {
      const headers = { Authorization: `Bearer ${cluster.tokens.admin}` };
      return async () => ({ server, tls: {}, headers, namespace });
    };

    async function start(read: ReadConnection): Promise<Reflector<ConfigMap>> {
      const client = new KubeClient({ access: new KubeAccess({ open: async () => read, clock }), clock });
      closers.push(() => client.close());
      const reflector = new Reflector<ConfigMap>({
        resource: 'configmaps',
        collection: { path: collection(), query: { labelSelector: 'ours=yes' } },
        client,
        transform: (object): ConfigMap => object,
        onChange: (change) => {
          const { metadata } = change.kind === 'gone' ? change.before : change.object;
          told.set(change.key, [...(told.get(change.key) ?? []), Number(metadata.resourceVersion)]);
        },
        logger: new RecordingLogger(),
        metrics,
        pageSize: 10,
      });
      running = reflector.run(stop.signal);
      await reflector.whenSynced(stop.signal);
      await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
      return reflector;
    }

    async function expectTruth(reflector: Reflector<ConfigMap>): Promise<void> {
      await eventually(() => {
        const copy = [...reflector.values()].map(({ metadata, data }) => [metadata.name, data?.['value']]);
        expect(Object.fromEntries(copy)).toEqual(Object.fromEntries(declared));
      });
    }

    const ends = (): readonly unknown[] => metrics.argsOf('kubeWatchEnded').map(([, end]) => end);

    /** A few objects, each made, edited, and some of them removed and made anew; one edit after the other. */
    async function edits(count: number): Promise<void> {
      const random = seededRandom(count);
      for (let n = 0; n < count; n++) {
        const name = `map-${Math.floor(random() * 5)}`;
        if (declared.has(name) && random() < 0.25) await remove(name);
        else await put(name, String(n));
      }
    }

    /** That nothing was told twice, and nothing old after something newer. */
    function expectOrder(): void {
      for (const [key, versions] of told) {
        expect([key, versions]).toEqual([key, [...new Set(versions)].toSorted((a, b) => a - b)]);
      }
    }

    const MEDDLES: readonly (readonly [string, string | undefined, () => Meddle])[] = [
      [
        'tells everything twice',
        undefined,
        () => (event, client) => {
          client.send(event);
          client.send(event);
        },
      ],
      [
        'tells after each event what it had told before',
        undefined,
        () => {
          const seen: string[] = [];
          return (event, client) => {
            client.send(event);
            for (const old of seen.slice(-4).toReversed()) client.send(old);
            seen.push(event);
          };
        },
      ],
      [
        'tells of two events the later one first',
        undefined,
        () => {
          let held: string | undefined;
          return (event, client) => {
            if (held === undefined) return void (held = event);
            client.send(event);
            client.send(held);
            held = undefined;
          };
        },
      ],
      [
        'says after each event that etcd has lost its leader',
        'failed',
        () => (event, client) => {
          client.send(event);
          const object = { kind: 'Status', code: 500, reason: 'InternalError', message: 'etcdserver: leader changed' };
          client.send(JSON.stringify({ type: 'ERROR', object }));
        },
      ],
      [
        'ends after each event',
        'closed',
        () => (event, client) => {
          client.send(event);
          client.end();
        },
      ],
      [
        'breaks off in the middle of the second event',
        'broken',
        () => {
          const begun = new WeakSet();
          return (event, client) => {
            if (begun.has(client)) client.breakOff();
            else client.send(event);
            begun.add(client);
          };
        },
      ],
    ];

    it.each(MEDDLES)('that %s, in the end has the truth', async (_, end, meddle) => {
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      api.meddle(meddle());
      await edits(30);
      // An even number, for the one that pairs them.
      await put('last', '1');
      await put('last', '2');
      await expectTruth(reflector);
      expectOrder();
      if (end === undefined) expect([ends(), api.watches]).toEqual([[], 1]);
      else expect(new Set(ends())).toEqual(new Set([end]));
      // It was not needed to read everything anew, however often the watch broke.
      expect(metrics.argsOf('kubeListed')).toEqual([['configmaps', 'ok', expect.any(Number)]]);
    });

    it('is asked ever less often while its watches break off at once', async () => {
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      api.meddle((event, client) => {
        client.send(event);
        client.end();
      });
      await edits(30);
      await expectTruth(reflector);
      await eventually(() => expect(api.watches).toBeGreaterThan(10));
      const [first = 0, ...rest] = clock.pauses;
      expect(first).toBe(400);
      // By its clock: 26 s for the first six, and then one in 15 s.
      expect(rest.slice(0, 8)).toEqual([800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000, 15_000]);
      expect(Math.min(...rest.slice(5))).toBe(15_000);
    });

    it.each([
      ['429', 'throttled', (response: ServerResponse) => void response.writeHead(429, { 'retry-after': '7' }).end()],
      ['503', 'failed', (response: ServerResponse) => void response.writeHead(503, { 'retry-after': '7' }).end()],
    ])('keeps each pause that %s asks for, of watches and of lists', async (_, end, answer) => {
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      await put('map', '1');
      await expectTruth(reflector);
      api.refuse(answer, answer, answer);
      let brokenOff = false;
      api.meddle((event, client) => {
        if (brokenOff) return client.send(event);
        brokenOff = true;
        client.breakOff();
      });
      await put('map', '2');
      await expectTruth(reflector);
      expect(ends()).toEqual(['broken', end, end, end]);
      // 7 s each, and a part of its own pauses on top.
      expect(clock.pauses.slice(1, 4)).toEqual([7_800, 8_600, 10_200]);
      api.refuse(answer, answer);
      await expect(reflector.refresh(stop.signal)).rejects.toMatchObject({ class: 'waiting', retryAfterMs: 7_000 });
      await reflector.refresh(stop.signal).catch(() => undefined);
      await reflector.refresh(stop.signal);
      expect(clock.pauses.slice(-2).every((ms) => ms >= 7_000)).toBe(true);
      expect(metrics.argsOf('kubeListed').map(([, outcome]) => outcome)).toContain('error');
      await expectTruth(reflector);
    });

    it('begins its list anew when the server has forgotten the moment of its first page', async () => {
      for (let n = 0; n < 12; n++) await put(`map-${n}`, '1');
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      await expectTruth(reflector);
      api.refuse(undefined, (response) => refuse(response, 410, 'Expired'));
      await reflector.refresh(stop.signal);
      expect(metrics.argsOf('kubeListed').map(([, outcome]) => outcome)).toEqual(['ok', 'expired', 'ok']);
      await expectTruth(reflector);
      expect([told.size, clock.pauses]).toEqual([12, []]);
    });

    it('sees an object that loses its label go, and come back with it', async () => {
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      await put('map', '1');
      await expectTruth(reflector);
      const label = (ours: string | null): Promise<unknown> =>
        cluster.call('PATCH', `${collection()}/map`, {
          contentType: 'application/merge-patch+json',
          body: { metadata: { labels: { ours } } },
        });
      for (let round = 0; round < 2; round++) {
        await label(null);
        await eventually(() => expect(reflector.get(`${namespace}/map`)).toBeUndefined());
        await label('yes');
        await expectTruth(reflector);
      }
      expect([ends(), told.get(`${namespace}/map`)?.length]).toEqual([[], 5]);
    });

    it('has what was written when whoever wrote it has waited for it', async () => {
      const api = await meddlingApi();
      const reflector = await start(asAdmin(api));
      for (let n = 0; n < 10; n++) {
        const { metadata } = await cluster.call<ConfigMap>(
          'PATCH',
          `${collection()}/map?fieldManager=test&force=true`,
          {
            contentType: 'application/apply-patch+yaml',
            body: {
              apiVersion: 'v1',
              kind: 'ConfigMap',
              metadata: { name: 'map', labels: { ours: 'yes' } },
              data: { value: String(n) },
            },
          },
        );
        expect(await reflector.until(metadata.resourceVersion, stop.signal, 60_000)).toBe(true);
        expect(reflector.get(`${namespace}/map`)?.data).toEqual({ value: String(n) });
      }
    });

    it('goes on with a token that was renewed in its file after the old one was taken back', async () => {
      const grants = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
      const create = (path: string, object: object): Promise<unknown> => cluster.call('POST', path, { body: object });
      await create(`${grants}/roles`, {
        metadata: { name: 'reader' },
        rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['list', 'watch'] }],
      });
      await create(`${grants}/rolebindings`, {
        metadata: { name: 'reader' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
        subjects: [{ kind: 'ServiceAccount', name: 'reader', namespace }],
      });
      const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
      await create(accounts, { metadata: { name: 'reader' } });
      const files = await mkdtemp(join(tmpdir(), 'plugset-account-'));
      closers.push(() => rm(files, { recursive: true }));
      const old = await cluster.serviceAccountToken(namespace, 'reader');
      await writeFile(join(files, 'token'), old);
      await writeFile(join(files, 'ca.crt'), cluster.ca);
      await writeFile(join(files, 'namespace'), namespace);
      const network = await FaultProxy.open(cluster.server.replace('https:', 'tcp:'), 'tcp');
      closers.push(() => network.close());
      const { port } = new URL(network.address);
      const reflector = await start(inClusterConnection({ host: '127.0.0.1', port, directory: files }));

      await cluster.call('DELETE', `${accounts}/reader`);
      await create(accounts, { metadata: { name: 'reader' } });
      // The API server believes for 10 s what it has believed once.
      await eventually(async () => {
        const asked = cluster.call('GET', collection(), { token: old });
        await expect(asked.catch((error: ClusterError) => error.status)).resolves.toBe(401);
      });
      network.cut();
      await eventually(() => expect(ends()).toContain('refused'));
      await writeFile(join(files, 'token'), await cluster.serviceAccountToken(namespace, 'reader'));
      await put('map', 'after');
      await expectTruth(reflector);
    });
  });
});
