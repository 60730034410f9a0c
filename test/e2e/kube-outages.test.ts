import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { API_VERSION } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { startClusterPlugset, type ClusterPlugset } from '../support/kube/cluster-plugset.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { createNamespace } from '../support/kube/namespace.ts';
import { KubeNode } from '../support/kube/node.ts';
import { startPod } from '../support/kube/pod.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';

interface Resource {
  readonly metadata: { readonly name: string; readonly generation: number };
  readonly status: {
    readonly observedGeneration: number;
    readonly summary?: string;
    readonly intentional?: number;
    readonly corrective?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

const NAMESPACE = 'agents';
const NAMES = Array.from({ length: 500 }, (_, index) => `w-${index}`);
const EDITED = new Set(NAMES.slice(0, 100));
/** Some are declared before the first fault, some after it, and one of the first is edited. */
const PODS = new Set(NAMES.filter((_, index) => index % 50 === 0));
/** What was declared once, and once more of those that are edited. */
const CHANGES = NAMES.length + EDITED.size;
const LEADS = /^leader_election_master_status\{[^}]*\} 1$/m;
/** For whatever depends on how fast a busy machine is. */
const PATIENCE_MS = 300_000;

await withBackend('kube-apiserver', async (programs) => {
  await withBackend('kubelet', (kubelet) => define(programs, kubelet));
});

/** `programs`, `kubelet`: directories of them. The control plane is one of its own, which is killed. */
function define(programs: string, kubelet: string): void {
  describe('a fleet of custom resources, directories and pods', () => {
    let plane: ControlPlane;
    let node: KubeNode;
    let plugset: ClusterPlugset;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      await installWorkspaceCrd(plane.cluster);
      await createNamespace(plane.cluster, NAMESPACE);
      node = await KubeNode.start(plane.cluster, kubelet);
      await Promise.all([...PODS].map((name) => startPod(node, { name, namespace: NAMESPACE, labels: labelOf(name) })));
      // Looks and paces are those of an operator who says nothing of them: no clock puts right what was lost. The lease
      // outlives the API server that is started again on a busy machine, and not the one that is frozen.
      plugset = await startClusterPlugset({
        cluster: plane.cluster,
        token: plane.cluster.tokens.admin,
        stateNamespace: NAMESPACE,
        settings: ({ root }) => ({
          store: { kubernetes: { namespaces: [NAMESPACE] }, lease: '70s' },
          limits: {},
          targets: { directory: { roots: [{ path: root, namespaces: [NAMESPACE] }] } },
        }),
      });
      for (const plugin of ['one', 'two']) await plugset.release(plugin, plugin);
    }, PATIENCE_MS);
    afterAll(async () => {
      await plugset.stop();
      await node.stop();
      await plane.stop();
    });

    async function declare(name: string, plugins: readonly string[]): Promise<void> {
      const path = join(plugset.dirs.root, name);
      await mkdir(path, { recursive: true });
      await plane.cluster.call('PATCH', `${workspacesIn(NAMESPACE)}/${name}?fieldManager=people&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: {
          apiVersion: API_VERSION,
          kind: 'Workspace',
          metadata: { name },
          spec: {
            runtime: 'claude-code',
            target: PODS.has(name) ? { pod: {} } : { directory: { path } },
            plugins: plugins.map((plugin) => ({ name: plugin, source: plugin })),
          },
        },
      });
    }

    /** As people do, who try again until they are heard; several at once. */
    async function declareAll(names: Iterable<string>, plugins: readonly string[]): Promise<void> {
      const left = [...names];
      const one = async (): Promise<void> => {
        for (let name = left.shift(); name !== undefined; name = left.shift()) {
          const wanted = name;
          await eventually(() => declare(wanted, plugins), PATIENCE_MS);
        }
      };
      await Promise.all(Array.from({ length: 4 }, one));
    }

    const metrics = (): Promise<string> => plugset.read('/metrics');

    /** Of all series of a metric that say all of this. */
    async function sum(metric: string, ...labels: readonly string[]): Promise<number> {
      const lines = (await metrics()).split('\n').filter((line) => line.startsWith(`${metric}{`));
      const meant = lines.filter((line) => labels.every((label) => line.includes(label)));
      return meant.reduce((total, line) => total + Number(line.slice(line.lastIndexOf(' '))), 0);
    }

    const changes = (...labels: readonly string[]): Promise<number> => sum('plugset_plugin_changes_total', ...labels);
    const watchEnds = (resource: string, end: string): Promise<number> =>
      sum('plugset_kube_watch_ends_total', `resource="${resource}"`, `end="${end}"`);

    /** Resolves in the middle of the work: so much is done, and more is not. */
    async function untilDone(count: number): Promise<void> {
      await eventually(async () => expect(await changes()).toBeGreaterThanOrEqual(count), PATIENCE_MS);
      expect(await changes()).toBeLessThan(CHANGES);
    }

    const lost = (): number =>
      plugset.logger.lines.filter(({ message }) => message.startsWith('leadership was lost')).length;

    async function killAndForget(): Promise<void> {
      for (const resource of ['workspaces', 'pods'])
        expect(await sum('plugset_kube_watches_total', `resource="${resource}"`), resource).toBeGreaterThan(0);
      await plane.killApiServer();
      await plane.compactEtcd();
      await plane.startApiServer();
    }

    /** For 100 s, by the silence that its watch tells of. That ends both watches, and the term of the leader. */
    async function freeze(): Promise<void> {
      const silence = (): Promise<number> => sum('plugset_kube_silent_seconds', 'resource="workspaces"');
      plane.freezeApiServer();
      try {
        const before = await silence();
        await eventually(async () => expect(await metrics()).not.toMatch(LEADS), PATIENCE_MS);
        await eventually(async () => expect(await silence()).toBeGreaterThan(before + 100), PATIENCE_MS);
        expect(await watchEnds('workspaces', 'silent')).toBeGreaterThan(0);
        expect(await watchEnds('pods', 'silent')).toBeGreaterThan(0);
        expect(await plugset.read('/livez')).toMatch(/ok/);
      } finally {
        plane.thawApiServer();
      }
    }

    async function untilAllReady(): Promise<readonly Resource[]> {
      const list = (): Promise<{ readonly items: readonly Resource[] }> =>
        plane.cluster.call('GET', workspacesIn(NAMESPACE));
      return eventually(async () => {
        const { items } = await list();
        expect(items.filter((one) => !isReady(one)).map(({ metadata }) => metadata.name)).toEqual([]);
        return items;
      }, PATIENCE_MS);
    }

    async function installed(name: string): Promise<readonly string[]> {
      if (!PODS.has(name)) return readdir(join(plugset.dirs.root, name, 'plugins'));
      const argv = ['-n', NAMESPACE, 'exec', name, '--', 'ls', '/configs/plugins'];
      return (await plane.cluster.kubectl(argv)).trim().split('\n');
    }

    it('loses nothing and does nothing twice while its API server is killed, forgets, and freezes for 100 s', async () => {
      const people = declareAll(NAMES, ['one']).then(() => declareAll(EDITED, ['one', 'two']));
      await untilDone(50);
      await killAndForget();
      await untilDone(250);
      expect(lost()).toBe(0);
      await freeze();
      await people;

      const all = await untilAllReady();
      expect(all).toHaveLength(NAMES.length);
      for (const { metadata, status } of all) {
        const plugins = EDITED.has(metadata.name) ? ['one', 'two'] : ['one'];
        expect(await installed(metadata.name)).toEqual(plugins);
        expect(status.summary).toBe(`${plugins.length}/${plugins.length}`);
        expect(status.corrective).toBe(0);
        // An edit before the first pass needs no pass of its own.
        expect(status.intentional).toBeLessThanOrEqual(plugins.length);
      }

      // What a pass did that was cut off is not counted, and what is counted was installed, once.
      expect(await changes()).toBe(await changes('action="install"', 'cause="intentional"'));
      expect(await changes()).toBeLessThanOrEqual(CHANGES);
      expect(await changes()).toBeGreaterThan(CHANGES * 0.9);
      for (const resource of ['workspaces', 'pods']) {
        expect(await watchEnds(resource, 'broken'), resource).toBeGreaterThan(0);
        expect(await watchEnds(resource, 'expired'), resource).toBeGreaterThan(0);
        expect(await sum('plugset_kube_watch_cache_misses_total', `resource="${resource}"`), resource).toBe(0);
      }
      expect(await sum('plugset_kube_objects', 'resource="workspaces"')).toBe(NAMES.length);
      expect(await sum('plugset_kube_objects', 'resource="pods"')).toBe(PODS.size);
      expect(await metrics()).toMatch(LEADS);
      expect(lost()).toBe(1);
      expect(await sum('plugset_loop_restarts_total')).toBe(0);
      expect(await plugset.read('/livez')).toMatch(/ok/);
    }, 1_800_000);
  });
}

function labelOf(workspace: string): Readonly<Record<string, string>> {
  return { 'plugset.dev/workspace': workspace };
}

function isReady({ metadata, status: { observedGeneration, conditions } }: Resource): boolean {
  const plugins = EDITED.has(metadata.name) ? 2 : 1;
  const ready = conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false;
  return ready && metadata.generation === plugins && observedGeneration === plugins;
}
