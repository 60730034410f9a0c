import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Resource {
  readonly metadata: { readonly name: string; readonly generation: number };
  readonly status: {
    readonly observedGeneration: number;
    readonly summary?: string;
    readonly intentional?: number;
    readonly corrective?: number;
  };
}

const NAMESPACE = 'default';
const NAMES = Array.from({ length: 60 }, (_, index) => `w-${index}`);

// A control plane of its own, which is killed.
await withBackend('kube-apiserver', (programs) => {
  describe('a fleet of custom resources whose API server goes away while it converges', () => {
    let plane: ControlPlane;
    let plugset: Plugset;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      await installWorkspaceCrd(plane.cluster);
    });
    afterAll(() => plane.stop());
    beforeEach(async () => {
      const kubeconfig = join(await tempDir(), 'kubeconfig');
      await writeFile(kubeconfig, plane.cluster.kubeconfig('admin', NAMESPACE));
      plugset = await startPlugset({
        store: { kind: 'kubernetes', namespaces: [NAMESPACE], stateNamespace: NAMESPACE },
        config: { kubernetes: { kubeconfigs: [kubeconfig] }, probeIntervalMs: 5_000, deepIntervalMs: 30_000 },
      });
      for (const plugin of ['one', 'two'])
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': plugin });
    });
    afterEach(async () => {
      await plugset.stop();
      await clear();
    });

    /** Nobody who would take a finalizer off runs any more. */
    async function clear(): Promise<void> {
      await plane.cluster.call('DELETE', workspacesIn(NAMESPACE));
      for (const { metadata } of await list())
        await plane.cluster.call('PATCH', `${workspacesIn(NAMESPACE)}/${metadata.name}`, {
          contentType: 'application/merge-patch+json',
          body: { metadata: { finalizers: null } },
        });
    }

    async function declare(name: string, plugins: readonly string[]): Promise<void> {
      const home = join(plugset.dirs.root, name);
      await mkdir(home, { recursive: true });
      await plane.cluster.call('PATCH', `${workspacesIn(NAMESPACE)}/${name}?fieldManager=test&force=true`, {
        contentType: 'application/apply-patch+yaml',
        body: {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name },
          spec: {
            runtime: 'hermes',
            target: { directory: { path: home } },
            plugins: plugins.map((plugin) => ({ name: plugin, source: plugin })),
          },
        },
      });
    }

    const list = async (): Promise<readonly Resource[]> =>
      (await plane.cluster.call<{ readonly items: readonly Resource[] }>('GET', workspacesIn(NAMESPACE))).items;
    const isDone = ({ metadata, status }: Resource): boolean => status.observedGeneration === metadata.generation;

    const metrics = async (): Promise<string> => (await fetch(`${await plugset.metricsUrl()}/metrics`)).text();

    /** Every one is as it was declared last, and came to that in no more steps than it was declared in. */
    async function expectTruth(): Promise<void> {
      const all = await eventually(async () => {
        const now = await list();
        expect(now.filter((one) => !isDone(one)).map(({ metadata }) => metadata.name)).toEqual([]);
        return now;
      }, 120_000);
      expect(all).toHaveLength(NAMES.length);
      for (const { metadata, status } of all) {
        const plugins = metadata.generation === 2 ? ['one', 'two'] : ['one'];
        expect(await readdir(join(plugset.dirs.root, metadata.name, 'plugins'))).toEqual(plugins);
        expect(status.summary).toBe(`${plugins.length}/${plugins.length}`);
        expect(status.corrective).toBe(0);
        // An edit before the first pass needs no pass of its own.
        expect(status.intentional).toBeLessThanOrEqual(metadata.generation);
      }
    }

    async function declareAll(): Promise<void> {
      for (const name of NAMES) await declare(name, ['one']);
      await eventually(async () => expect((await list()).filter(isDone).length).toBeGreaterThan(5), 60_000);
    }

    it('loses nothing and does nothing twice, though it is killed and what the watch would go on from is gone', async () => {
      await declareAll();
      await plane.killApiServer();
      await plane.compactEtcd();
      await plane.startApiServer();
      for (const name of NAMES.slice(0, 20)) await declare(name, ['one', 'two']);
      await expectTruth();
      expect(await metrics()).toMatch(/^plugset_kube_watch_ends_total\{[^}]*end="broken"[^}]*\} [1-9]/m);
      expect(await metrics()).toMatch(new RegExp(String.raw`^plugset_kube_objects\{[^}]*\} ${NAMES.length}$`, 'm'));
    });

    it('loses nothing and does nothing twice, though it freezes for longer than a lease lasts', async () => {
      const leads = /^leader_election_master_status\{[^}]*\} 1$/m;
      await declareAll();
      plane.freezeApiServer();
      try {
        await eventually(async () => expect(await metrics()).not.toMatch(leads), 90_000);
      } finally {
        plane.thawApiServer();
      }
      for (const name of NAMES.slice(0, 20)) await declare(name, ['one', 'two']);
      await expectTruth();
      expect(await metrics()).toMatch(leads);
    });
  });
});
