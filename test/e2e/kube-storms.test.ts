import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { refuse } from '../support/faulty-kube-api.ts';
import { NamespaceWorkspaces, startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { MeddlingApi, type Fate, type WatchingClient } from '../support/kube/meddling-api.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { startPod } from '../support/kube/pod.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';

type Kind = 'list' | 'watch' | 'lease' | 'state' | 'event' | 'exec' | 'status' | 'workspace';

/**
 * What plugset asks for, and of how many requests one is spoilt, beginning with the first. Counted and not by chance: one
 * workspace in sixty would be out of luck eight times in a row, and wait for minutes before it tries again.
 */
const KINDS: Readonly<Record<Kind, { readonly pattern: RegExp; readonly oneIn: number }>> = {
  list: { pattern: /\/(workspaces|pods)\?(?!.*watch=)/, oneIn: 4 },
  watch: { pattern: /\?.*watch=/, oneIn: 4 },
  lease: { pattern: /\/leases/, oneIn: 4 },
  state: { pattern: /\/configmaps/, oneIn: 16 },
  event: { pattern: /\/events/, oneIn: 4 },
  exec: { pattern: /\/exec\?/, oneIn: 5 },
  status: { pattern: /\/status\?/, oneIn: 8 },
  workspace: { pattern: /\/workspaces\/[^/]+$/, oneIn: 8 },
};
const ALL_KINDS = Object.keys(KINDS) as readonly Kind[];

interface Asked {
  readonly line: string;
  readonly kind: Kind | undefined;
  readonly atMs: number;
  readonly isSpoilt: boolean;
}

const PODS = ['pod-0', 'pod-1', 'pod-2'];
const NAMES = [...PODS, ...Array.from({ length: 27 }, (_, index) => `dir-${index}`)];
/** Each is installed, and gets a plugin more. */
const CHANGES = 2 * NAMES.length;
/** In calm weather a change takes 7 requests, and in these storms 11 to 17. */
const MOST_REQUESTS = 40 * CHANGES;
const RETRY_AFTER_S = 2;
/** As much earlier a timer may fire, by another clock. */
const TIMER_MS = 100;
/** An event that no other one follows is told after this. */
const LONGEST_HELD_MS = 50;
const PATIENCE_MS = 400_000;
const ETCD = { kind: 'Status', code: 500, reason: 'InternalError', message: 'etcdserver: leader changed' };

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  const { cluster } = node;

  describe('a fleet of custom resources, directories and pods, in a storm', () => {
    let namespace: string;
    let api: MeddlingApi;
    let asked: Asked[];
    let plugset: ClusterPlugset;
    let workspaces: NamespaceWorkspaces;
    const closers: (() => Promise<void>)[] = [];

    beforeAll(() => installWorkspaceCrd(cluster));
    beforeEach(async () => {
      namespace = await createNamespace(cluster);
      closers.push(() => removeNamespace(cluster, namespace));
      workspaces = new NamespaceWorkspaces(cluster, namespace);
      for (const name of PODS) await startPod(node, { name, namespace, labels: { 'plugset.dev/workspace': name } });
      api = await MeddlingApi.open(cluster);
      closers.push(() => api.close());
      // Looks and the lease are those of an operator who says nothing of them: no clock puts right what was lost.
      plugset = await startClusterPlugset({
        cluster,
        token: cluster.tokens.admin,
        server: api.server,
        stateNamespace: namespace,
        namespaces: [namespace],
        idle: true,
        settings: ({ root }) => ({
          limits: {},
          targets: { directory: { roots: [{ path: root, namespaces: [namespace] }] } },
        }),
      });
      closers.push(() => plugset.stop());
      for (const plugin of ['one', 'two']) await plugset.release(plugin, plugin);
      asked = [];
    });
    afterEach(async () => {
      for (const close of closers.splice(0).toReversed()) await close();
    });

    /**
     * Some requests of each kind have another fate, from the first one of the daemon on; `nth`: so many of this kind had one before.
     * Never the same request twice in a row: what is asked at a steady pace could meet each turn, and never come through.
     */
    function breakLoose(fateOf: (nth: number) => Fate): void {
      const turns = new Map<Kind, { nth: number; since: number }>();
      const wasSpoilt = new Map<string, boolean>();
      api.judge(({ method = '', url = '' }) => {
        const line = `${method} ${url}`;
        const kind = ALL_KINDS.find((one) => KINDS[one].pattern.test(url));
        const { nth, since } = (kind && turns.get(kind)) ?? { nth: 0, since: Infinity };
        const isSpoilt = kind !== undefined && since + 1 >= KINDS[kind].oneIn && wasSpoilt.get(line) !== true;
        if (kind !== undefined) turns.set(kind, isSpoilt ? { nth: nth + 1, since: 0 } : { nth, since: since + 1 });
        wasSpoilt.set(line, isSpoilt);
        asked.push({ line, kind, atMs: performance.now(), isSpoilt });
        return isSpoilt ? fateOf(nth) : undefined;
      });
      plugset.run();
    }

    /** After some events, and not for ever: the pauses after it grow to half a minute each. */
    function nowAndThen(harm: (client: WatchingClient) => void): (client: WatchingClient) => void {
      const random = seededRandom(2);
      let left = 6;
      return (client) => {
        if (left === 0 || random() > 0.1) return;
        left -= 1;
        harm(client);
      };
    }

    async function declare(name: string, plugins: readonly string[]): Promise<void> {
      const path = join(plugset.dirs.root, name);
      await mkdir(path, { recursive: true });
      await workspaces.declare(name, PODS.includes(name) ? { pod: {} } : { directory: { path } }, plugins);
    }

    async function installed(name: string): Promise<readonly string[]> {
      if (!PODS.includes(name)) return readdir(join(plugset.dirs.root, name, 'plugins'));
      return (await cluster.kubectl(['-n', namespace, 'exec', name, '--', 'ls', '/configs/plugins']))
        .trim()
        .split('\n');
    }

    async function expectConverged(plugins: readonly string[]): Promise<void> {
      for (const name of NAMES) await declare(name, plugins);
      for (const name of NAMES) {
        const { corrective, summary } = await workspaces.untilReady(name, PATIENCE_MS);
        expect([name, corrective, summary]).toEqual([name, 0, `${plugins.length}/${plugins.length}`]);
        expect([name, await installed(name)]).toEqual([name, plugins]);
      }
    }

    async function expectNoHarm(...ends: readonly string[]): Promise<void> {
      await expectConverged(['one']);
      await expectConverged(['one', 'two']);
      expect(ALL_KINDS.filter((kind) => !asked.some((one) => one.kind === kind && one.isSpoilt))).toEqual([]);
      // Of renewals of the lease there are as many as it takes time.
      expect(asked.filter(({ kind }) => kind !== 'lease').length).toBeLessThan(MOST_REQUESTS);
      const metrics = (await plugset.read('/metrics')).split('\n').filter((line) => !line.endsWith(' 0'));
      const [changes = '', ...others] = metrics.filter((line) => line.startsWith('plugset_plugin_changes_total{'));
      expect(others).toEqual([]);
      expect(changes).toContain('{action="install",cause="intentional"}');
      expect(Number(changes.split(' ')[1])).toBeLessThanOrEqual(CHANGES);
      const seen = metrics.filter((line) => line.startsWith('plugset_kube_watch_ends_total{'));
      for (const end of ends) expect(seen.join('\n')).toContain(`end="${end}"`);
    }

    it('of 429 converges, and asks nobody before the time that it was told', async () => {
      breakLoose(() => (response) => {
        response.setHeader('retry-after', RETRY_AFTER_S);
        refuse(response, 429, 'TooManyRequests');
      });
      await expectNoHarm('throttled');
      for (const [at, { line, atMs, isSpoilt }] of asked.entries()) {
        // What only one pass asks for, and nothing wakes before its time.
        if (!isSpoilt || !/^PATCH .*\/dir-/.test(line)) continue;
        const next = asked.slice(at + 1).find((one) => one.line === line);
        expect((next?.atMs ?? Infinity) - atMs, line).toBeGreaterThan(RETRY_AFTER_S * 1000 - TIMER_MS);
      }
    }, 1_800_000);

    it('of connections that end, before and after what was asked was done, converges', async () => {
      const harm = nowAndThen((client) => client.breakOff());
      api.meddle((event, client) => {
        client.send(event);
        harm(client);
      });
      breakLoose((nth) => (nth % 2 === 0 ? 'unheard' : 'lost'));
      await expectNoHarm('broken');
    }, 1_800_000);

    it('of answers 500, and events told twice, late and in the wrong order, converges', async () => {
      const harm = nowAndThen((client) => client.send(JSON.stringify({ type: 'ERROR', object: ETCD })));
      const told: string[] = [];
      let held: string | undefined;
      const tell = (client: WatchingClient, ...events: readonly string[]): void => {
        for (const event of events) client.send(event);
        for (const old of told.slice(-4).toReversed()) client.send(old);
        told.push(...events);
        harm(client);
      };
      api.meddle((event, client) => {
        if (held !== undefined) {
          tell(client, event, held, event);
          held = undefined;
          return;
        }
        held = event;
        setTimeout(() => {
          if (held !== event) return;
          tell(client, event);
          held = undefined;
        }, LONGEST_HELD_MS);
      });
      breakLoose(() => (response) => refuse(response, 500, 'InternalError'));
      await expectNoHarm('failed');
    }, 1_800_000);
  });
});
