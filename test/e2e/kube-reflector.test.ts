import { setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../src/adapters/kube/kube-access.ts';
import { KubeClient, type KubeRequest } from '../../src/adapters/kube/kube-client.ts';
import type { ReadConnection } from '../../src/adapters/kube/kube-connection.ts';
import { openKubeconfig } from '../../src/adapters/kube/kubeconfig.ts';
import { withoutBulk, type KubeObject } from '../../src/adapters/kube/kube-object.ts';
import { Reflector } from '../../src/adapters/kube/reflector.ts';
import { watchEvents } from '../../src/adapters/kube/watch-events.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { Clock } from '../../src/ports/clock.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { ClusterError, type Cluster } from '../support/kube/cluster.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { PacedClock } from '../support/paced-clock.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';

interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

const never = new AbortController().signal;
const UNTRUSTED = expect.objectContaining({ reason: 'AuthenticationFailed' }) as unknown;
const ALL = '/api/v1/configmaps';
const DEFAULT = '/api/v1/namespaces/default/configmaps';

await withBackend('kube-apiserver', (programs) => {
  describe('on a real API server', () => {
    let plane: ControlPlane;
    let cluster: Cluster;
    let proxy: FaultProxy;
    /** What is declared by now, as `put` and `remove` have left it. */
    const declared = new Map<string, string>();

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      ({ cluster } = plane);
      proxy = await FaultProxy.open(cluster.server.replace('https:', 'tcp:'), 'tcp');
      await writeKubeconfigs();
    });
    afterAll(async () => {
      await proxy.close();
      await plane.stop();
    });

    const kubeconfigOf = (user: string): string => join(cluster.directory, `${user}.test.kubeconfig`);

    async function writeKubeconfigs(): Promise<void> {
      for (const user of ['admin', 'alice'] as const) await writeFile(kubeconfigOf(user), cluster.kubeconfig(user));
    }

    async function put(name: string, value: string): Promise<void> {
      await cluster.call('PATCH', `${DEFAULT}/${name}?fieldManager=test&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels: { ours: 'yes' } }, data: { value } },
      });
      declared.set(name, value);
    }

    async function remove(name: string): Promise<void> {
      await cluster.call('DELETE', `${DEFAULT}/${name}`);
      declared.delete(name);
    }

    const closers: (() => unknown)[] = [];
    afterEach(async () => {
      for (const close of closers.splice(0)) await close();
    });

    /** With the kubeconfig of a user, and where that leads to taken for the proxy. */
    function clientOf(user: string, clock: Clock = new SystemClock()): KubeClient {
      const open = async (): Promise<ReadConnection> => {
        const read = await openKubeconfig({ paths: [kubeconfigOf(user)] });
        return async (signal) => ({
          ...(await read(signal)),
          server: new URL(proxy.address.replace('tcp:', 'https:')),
        });
      };
      const client = new KubeClient({ access: new KubeAccess({ open, clock }), clock });
      closers.push(() => client.close());
      return client;
    }

    describe('a call', () => {
      const asAdmin = (request: KubeRequest): Promise<unknown> => clientOf('admin').call(request, never);

      it('creates, applies, reads and deletes', async () => {
        const metadata = { name: 'made', labels: { mine: 'yes' } };
        await asAdmin({ method: 'POST', path: DEFAULT, body: { metadata, data: { value: '1' } } });
        await asAdmin({
          method: 'PATCH',
          path: `${DEFAULT}/made`,
          query: { fieldManager: 'plugset', force: 'true' },
          contentType: 'application/apply-patch+yaml',
          body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'made' }, data: { value: '2' } },
        });
        expect(await asAdmin({ method: 'GET', path: `${DEFAULT}/made` })).toMatchObject({ data: { value: '2' } });
        await asAdmin({ method: 'DELETE', path: `${DEFAULT}/made` });
        const gone = asAdmin({ method: 'GET', path: `${DEFAULT}/made` });
        await expect(gone).rejects.toMatchObject({ status: 404, statusReason: 'NotFound' });
      });

      it('that comes too late, or twice, is told apart', async () => {
        await put('twice', '1');
        const made = { method: 'POST', path: DEFAULT, body: { metadata: { name: 'twice' } } } as const;
        await expect(asAdmin(made)).rejects.toMatchObject({ status: 409, statusReason: 'AlreadyExists' });
        const stale = { metadata: { name: 'twice', resourceVersion: '1' } };
        const late = asAdmin({ method: 'PUT', path: `${DEFAULT}/twice`, body: stale });
        await expect(late).rejects.toMatchObject({ status: 409, statusReason: 'Conflict' });
        await remove('twice');
      });

      it('of a kind that is not installed says so, and of an object that is not there too', async () => {
        const nowhere = asAdmin({ method: 'GET', path: '/apis/plugset.dev/v1alpha1/workspaces' });
        await expect(nowhere).rejects.toMatchObject({
          reason: 'ObjectNotFound',
          statusReason: '',
          message: expect.stringMatching(/its CustomResourceDefinition may not be installed$/) as string,
        });
        const nobody = asAdmin({ method: 'GET', path: `${DEFAULT}/nobody` });
        await expect(nobody).rejects.toMatchObject({
          reason: 'ObjectNotFound',
          statusReason: 'NotFound',
          message: expect.stringMatching(/configmaps "nobody" not found$/) as string,
        });
      });

      it('that is not permitted says what is lacking', async () => {
        const asked = clientOf('alice').call({ method: 'GET', path: DEFAULT }, never);
        await expect(asked).rejects.toMatchObject({
          reason: 'AccessDenied',
          message: expect.stringMatching(/User "alice" cannot list resource "configmaps"/) as string,
        });
      });

      it('with a token that nobody knows is not let in', async () => {
        await writeFile(kubeconfigOf('nobody'), cluster.kubeconfig({ token: 'unknown' }));
        const asked = clientOf('nobody').call({ method: 'GET', path: DEFAULT }, never);
        await expect(asked).rejects.toMatchObject({ class: 'terminal', reason: 'AuthenticationFailed', status: 401 });
      });
    });

    it('says that it has forgotten a version, or has yet to reach it', async () => {
      await put('old', '1');
      await put('old', '2');
      // It remembers by itself what etcd has forgotten.
      await plane.killApiServer();
      await plane.compactEtcd();
      await plane.startApiServer();
      const client = clientOf('admin');
      const at = (resourceVersion: string): Promise<unknown> =>
        client.call(
          { method: 'GET', path: ALL, query: { limit: 500, resourceVersion, resourceVersionMatch: 'Exact' } },
          never,
        );
      await expect(at('2')).rejects.toMatchObject({ status: 410, isVersionLost: true });
      await expect(at('999999999')).rejects.toMatchObject({ isVersionLost: true });
      await remove('old');
    });

    it('ends a watch with a bookmark, by which the next one goes on', async () => {
      const client = clientOf('admin');
      const { metadata } = await client.call<{ metadata: { resourceVersion: string } }>(
        { method: 'GET', path: ALL, query: { limit: 1 } },
        never,
      );
      // Of another label, so that it is only a version to this watch.
      const noise = (): Promise<void> => put('noise', '1').then(() => remove('noise'));
      let made: Promise<void> | undefined;
      const options = { from: metadata.resourceVersion, timeoutSeconds: 10, silenceMs: 70_000, signal: never };
      const collection = { path: ALL, query: { labelSelector: 'nobody=has' } };
      const events = [];
      const onOpen = (): void => {
        made = noise();
      };
      for await (const event of watchEvents(client, collection, { ...options, onOpen })) {
        events.push(event);
      }
      await made;
      // In its last two seconds, one or two.
      expect(new Set(events.map(({ kind }) => kind))).toEqual(new Set(['bookmark']));
      expect(events.at(-1)?.version).not.toBe(metadata.resourceVersion);
    });

    describe('a reflector', () => {
      let metrics: ReturnType<typeof recordingMetrics>;
      let logger: RecordingLogger;
      let stop: AbortController;
      let running: Promise<void>;
      let news: string[];
      /** What became of each object that is there, by its id and version. */
      let told: string[];
      beforeEach(() => {
        metrics = recordingMetrics();
        logger = new RecordingLogger();
        stop = new AbortController();
        setMaxListeners(0, stop.signal);
        news = [];
        told = [];
      });
      afterEach(async () => {
        plane.thawApiServer();
        proxy.heal();
        stop.abort();
        await running;
      });

      function start(clock: Clock = new SystemClock(), client = clientOf('admin', clock)): Reflector<ConfigMap> {
        const reflector = new Reflector<ConfigMap>({
          resource: 'configmaps',
          collection: { path: ALL, query: { labelSelector: 'ours=yes' } },
          client,
          transform: (object): ConfigMap => withoutBulk(object),
          onChange: ({ kind, key, ...change }, cause) => {
            const how = 'isTombstone' in change && change.isTombstone ? ' tombstone' : '';
            news.push(`${kind} ${key} ${cause}${how}`);
            if ('object' in change)
              told.push(`${change.object.metadata.uid} ${change.object.metadata.resourceVersion}`);
          },
          logger,
          metrics,
          pageSize: 10,
        });
        running = reflector.run(stop.signal);
        return reflector;
      }

      async function expectTruth(reflector: Reflector<ConfigMap>): Promise<void> {
        await eventually(() => {
          const copy = [...reflector.values()].map(({ metadata, data }) => [metadata.name, data?.['value']]);
          expect(Object.fromEntries(copy)).toEqual(Object.fromEntries(declared));
        });
      }

      const ends = (): readonly unknown[] => metrics.argsOf('kubeWatchEnded').map(([, end]) => end);
      const outcomes = (): readonly unknown[] => metrics.argsOf('kubeListed').map(([, outcome]) => outcome);

      it('lists in pages, and hears what is made, changed and removed', async () => {
        await Promise.all(Array.from({ length: 25 }, (_, n) => put(`map-${n}`, '0')));
        const reflector = start();
        await reflector.whenSynced(stop.signal);
        await expectTruth(reflector);
        expect(news).toHaveLength(declared.size);
        expect(outcomes()).toEqual(['ok']);
        expect(reflector.get('default/map-0')?.metadata).not.toHaveProperty('managedFields');
        await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
        await put('map-0', '1');
        await put('map-25', '1');
        await remove('map-1');
        await expectTruth(reflector);
        expect(news.slice(-3)).toEqual([
          'changed default/map-0 watch',
          'added default/map-25 watch',
          'gone default/map-1 watch',
        ]);
      });

      it('outlives the API server', async () => {
        const reflector = start();
        await reflector.whenSynced(stop.signal);
        await plane.killApiServer();
        await eventually(() => expect(ends()).toContain('broken'));
        await plane.startApiServer();
        await put('map-2', 'after');
        await remove('map-3');
        await expectTruth(reflector);
        // It went on where it was.
        expect(outcomes()).toEqual(['ok']);
        expect(news.slice(-2)).toEqual(['changed default/map-2 watch', 'gone default/map-3 watch']);
      });

      it('that was cut off until its version was compacted away lists, and buries who is gone', async () => {
        const reflector = start();
        await reflector.whenSynced(stop.signal);
        await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
        proxy.refuse();
        await put('map-4', 'meanwhile');
        await remove('map-5');
        await plane.killApiServer();
        await plane.compactEtcd();
        await plane.startApiServer();
        proxy.heal();
        await expectTruth(reflector);
        expect(ends()).toContain('expired');
        expect(outcomes()).toEqual(['ok', 'ok']);
        expect(news.slice(-2)).toEqual(['gone default/map-5 list tombstone', 'changed default/map-4 list']);
        expect(metrics.argsOf('kubeMissed')).toEqual([]);
      });

      it('outlives a silence, and hears what was done after it', async () => {
        const clock = new FakeClock();
        clock.setRandom(() => 0);
        const reflector = start(clock);
        await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
        plane.freezeApiServer();
        await clock.advance(70_000);
        await eventually(() => expect(ends()).toEqual(['silent']));
        // The list that would tell what was missed is not answered either, and so is the next watch.
        await eventually(async () => {
          await clock.advance(10_000);
          expect(ends()).toContain('broken');
        });
        expect(clock.monotonic()).toBeGreaterThanOrEqual(100_000);
        await eventually(async () => {
          await clock.advance(10_000);
          expect(reflector.outdated()).toMatch(/^nothing was heard of configmaps for 3\d\d s: .*no answer within/);
        });
        // It was tried all the time: this process is well.
        expect(reflector.problem()).toBeUndefined();
        plane.thawApiServer();
        await put('map-6', 'thawed');
        await expectTruth(reflector);
        expect(reflector.outdated()).toBeUndefined();
      });

      it('has the truth of 500 objects, each change once, whatever befell the server amid them', async () => {
        await Promise.all(Array.from({ length: 50 }, (_, n) => putMany(n * 10, 10)));
        const clock = new PacedClock();
        closers.push(() => clock.stop());
        const reflector = start(clock);
        await reflector.whenSynced(stop.signal);
        const editing = new AbortController();
        const edits = editUntil(editing.signal);
        const heardOf = (count: number): Promise<void> =>
          eventually(async () => {
            // Its pauses are up to 30 s.
            await clock.hurry(1_000, 5);
            expect(news.length).toBeGreaterThan(count + 20);
          }, 120_000);
        await heardOf(declared.size);

        await plane.killApiServer();
        await plane.startApiServer();
        await heardOf(news.length);
        expect(ends()).toContain('broken');

        plane.freezeApiServer();
        await clock.hurry(100_000);
        expect(ends()).toContain('silent');
        plane.thawApiServer();
        await heardOf(news.length);

        proxy.refuse();
        await putMany(500, 5);
        await plane.killApiServer();
        await plane.compactEtcd();
        await plane.startApiServer();
        proxy.heal();
        await heardOf(news.length);
        expect([...ends(), ...outcomes()]).toContain('expired');

        editing.abort();
        await edits;
        await expectTruth(reflector);
        expect(reflector.problem()).toBeUndefined();
        expect(told).toHaveLength(new Set(told).size);
        await Promise.all([...declared.keys()].filter((name) => name.startsWith('many-')).map(remove));
      }, 300_000);

      async function putMany(from: number, count: number): Promise<void> {
        for (let n = from; n < from + count; n++) await put(`many-${n}`, 'made');
      }

      /** Whatever becomes of the server, each edit is tried until it is done. */
      async function editUntil(signal: AbortSignal): Promise<void> {
        let edited = 0;
        const patiently = (work: () => Promise<void>): Promise<void> => eventually(work, 120_000);
        for (let n = 0; !signal.aborted; n = (n + 7) % 500) {
          const name = `many-${n}`;
          if (n % 10 === 0 && declared.has(name)) await patiently(() => removeSurely(name));
          else await patiently(() => put(name, `edit ${edited++}`));
        }
      }

      /** Nobody may have heard that it was removed. */
      async function removeSurely(name: string): Promise<void> {
        await remove(name).catch((error: unknown) => {
          if (!(error instanceof ClusterError) || error.status !== 404) throw error;
          declared.delete(name);
        });
      }

      it('and 400 calls make 17 connections: 16 for calls, one for the watch', async () => {
        const before = proxy.accepted;
        const client = clientOf('admin');
        const reflector = start(new SystemClock(), client);
        await reflector.whenSynced(stop.signal);
        await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
        const request: KubeRequest = { method: 'GET', path: `${DEFAULT}/map-0` };
        for (let round = 0; round < 2; round++) {
          await Promise.all(Array.from({ length: 200 }, () => client.call(request, stop.signal)));
        }
        expect(proxy.accepted - before).toBe(17);
        client.close();
        stop.abort();
        await running;
        await eventually(() => expect(proxy.connections).toBe(0));
      });

      it('goes on when the API server has a new certificate, as soon as the kubeconfig names it', async () => {
        const reflector = start();
        await reflector.whenSynced(stop.signal);
        await plane.renewCertificate();
        ({ cluster } = plane);
        await put('map-8', 'renewed');
        await eventually(() =>
          expect(logger.at('debug').map(({ fields }) => fields['error'])).toContainEqual(UNTRUSTED),
        );
        await writeKubeconfigs();
        await expectTruth(reflector);
      });

      it('compares itself with a list of the very version it has heard, and has missed nothing', async () => {
        const clock = new FakeClock();
        clock.setRandom(() => 0);
        const reflector = start(clock);
        await eventually(() => expect(metrics.argsOf('kubeWatchOpened')).toHaveLength(1));
        for (let minute = 0; minute < 10; minute++) {
          await put('map-7', `minute ${minute}`);
          await expectTruth(reflector);
          await clock.advance(60_000);
        }
        await eventually(() => expect(metrics.argsOf('kubeMissed')).toEqual([['configmaps', 0]]));
        // Beside its watch, which went on.
        expect([ends(), outcomes()]).toEqual([[], ['ok', 'ok']]);
        await put('map-7', 'on and on');
        await expectTruth(reflector);
      });
    });
  });
});
