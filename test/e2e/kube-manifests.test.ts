import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';

import { configFrom, type Config } from '../../src/config.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import type { Cluster } from '../support/kube/cluster.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { applyOverlay, findManifest, OVERLAYS, renderOverlay, type OverlayName } from '../support/kube/overlay.ts';
import { untilWorkspacesAreServed } from '../support/kube/workspace-crd.ts';
import { tempDir } from '../support/temp-dir.ts';

interface Deployment {
  readonly spec: {
    readonly replicas: number;
    readonly selector: { readonly matchLabels: Readonly<Record<string, string>> };
    readonly template: {
      readonly metadata: { readonly labels: Readonly<Record<string, string>> };
      readonly spec: PodSpec;
    };
  };
}

interface PodSpec {
  readonly terminationGracePeriodSeconds: number;
  readonly containers: readonly {
    readonly args: readonly string[];
    readonly env: readonly { readonly name: string; readonly value: string }[];
    readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
    readonly volumeMounts: readonly { readonly mountPath: string }[];
  }[];
}

interface Budget {
  readonly spec: { readonly selector: { readonly matchLabels: Readonly<Record<string, string>> } };
}

interface Settings {
  readonly data: Readonly<Record<string, string>>;
}

interface Question {
  readonly verb: string;
  readonly resource: string;
  readonly group?: string;
  readonly subresource?: string;
  readonly namespace?: string;
}

const OWN = 'plugset-system';
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const README = join(ROOT, 'manifests/kustomize/README.md');
const run = promisify(execFile);

await withBackend('kube-apiserver', (programs) => {
  describe('manifests/kustomize', () => {
    let plane: ControlPlane;
    let cluster: Cluster;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      ({ cluster } = plane);
      for (const namespace of ['agents', 'others']) await cluster.kubectl(['create', 'namespace', namespace]);
    });
    afterEach(() => cluster.kubectl(['delete', 'clusterrolebinding', 'plugset-workspaces', '--ignore-not-found']));
    afterAll(() => plane.stop());

    /** Whether the ServiceAccount of plugset may. */
    const mayPlugset = async ({ namespace = 'agents', group = '', ...question }: Question): Promise<boolean> => {
      const { status } = await cluster.call<{ readonly status: { readonly allowed: boolean } }>(
        'POST',
        '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        {
          token: await cluster.serviceAccountToken(OWN, 'plugset'),
          body: {
            apiVersion: 'authorization.k8s.io/v1',
            kind: 'SelfSubjectAccessReview',
            spec: { resourceAttributes: { ...question, group, namespace } },
          },
        },
      );
      return status.allowed;
    };

    const deploymentOf = async (name: OverlayName): Promise<Deployment['spec']> =>
      (findManifest(await renderOverlay(cluster, name), 'Deployment') as Deployment).spec;

    /** The configuration of an overlay, read as the daemon of its Deployment reads it. */
    const configOf = async (name: OverlayName): Promise<Config> => {
      const manifests = await renderOverlay(cluster, name);
      const { data } = findManifest(manifests, 'ConfigMap') as Settings;
      return configIn(data['plugset.yaml'] ?? '');
    };
    const configIn = async (text: string, given: object = {}): Promise<Config> => {
      const path = join(await tempDir(), 'plugset.yaml');
      await writeFile(path, text);
      return configFrom({ ...given, config: path });
    };

    it.each(OVERLAYS)('%s is applied strictly and without a warning, and a second time', async (name) => {
      const first = await applyOverlay(cluster, name);
      expect(first).toContain('deployment.apps/plugset serverside-applied');
      expect((await applyOverlay(cluster, name)).split('\n')).toEqual(first.split('\n'));
    });

    it.each(OVERLAYS)('%s makes pods that its namespace admits, where only restricted ones are', async (name) => {
      await applyOverlay(cluster, name);
      const { template } = await deploymentOf(name);
      const create = (spec: object): Promise<string> =>
        cluster.kubectl(
          ['create', '--dry-run=server', '--warnings-as-errors', '-n', OWN, '-f', '-'],
          JSON.stringify({ apiVersion: 'v1', kind: 'Pod', metadata: { ...template.metadata, name: 'one' }, spec }),
        );
      expect(await create(template.spec)).toBe('pod/one created (server dry run)\n');
      await expect(create({ ...template.spec, hostNetwork: true })).rejects.toThrow(/violates PodSecurity "restricted/);
    });

    it('is installed by the commands of its README', async () => {
      const [block = ''] = /(?<=^```sh\n)[^]*?(?=^```)/m.exec(await readFile(README, 'utf8')) ?? [];
      const commands = block.split(/^(?=kubectl|docker)/m);
      expect(commands).toHaveLength(5);
      const [, install = '', , declare = ''] = commands;
      const env = {
        ...cluster.environment,
        PATH: `${programs}:${process.env['PATH']}`,
        IMAGE: 'registry.example.com/plugset:1',
      };
      await run('sh', ['-ec', install], { cwd: ROOT, env });
      await untilWorkspacesAreServed(cluster);
      // Which a controller makes where one runs.
      await cluster.kubectl(['create', 'serviceaccount', 'default']);
      const { stdout } = await run('sh', ['-ec', declare], { cwd: ROOT, env });
      expect(stdout).toBe('pod/alice-0 created\nworkspace.plugset.dev/alice created\n');
      const found = ['get', 'pods', '-l', 'plugset.dev/workspace=alice', '-o', 'jsonpath={..mountPath}'];
      expect(await cluster.kubectl(found)).toBe('/configs');
      const image = ['-o', 'jsonpath={.spec.template.spec.containers[*].image}'];
      expect(await cluster.kubectl(['-n', OWN, 'get', 'deployment', 'plugset', ...image])).toBe(env.IMAGE);
    });

    it('shows in its README a configuration that gives all to one namespace', async () => {
      const [block = ''] = /(?<=^```yaml\n)[^]*?(?=^```)/m.exec(await readFile(README, 'utf8')) ?? [];
      const config = await configIn(`apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n${block}`, {
        kubernetes: true,
      });
      const { engines, ec2, sshHosts, roots, gitCredentials } = config;
      const entries = [engines, ec2.regions, sshHosts, roots, gitCredentials].flat();
      expect(entries.map(({ namespaces }) => namespaces)).toEqual(entries.map(() => ['team-a']));
      expect(entries).toHaveLength(5);
    });

    it('gives the daemon what it reads, and probes and Prometheus what they ask', async () => {
      const manifests = await renderOverlay(cluster, 'cluster');
      const spec = await deploymentOf('cluster');
      const [container] = spec.template.spec.containers;
      const env = Object.fromEntries(container?.env.map(({ name, value }) => [name, value]) ?? []);
      expect(container?.args).toEqual(['run']);
      expect(env['PLUGSET_CONFIG']).toBe('/etc/plugset/plugset.yaml');
      expect(container?.volumeMounts).toContainEqual({ name: 'config', mountPath: '/etc/plugset', readOnly: true });
      expect(env['PLUGSET_LISTEN']).toBe(`0.0.0.0:${container?.ports[0]?.containerPort}`);
      expect(Number.parseInt(env['PLUGSET_GRACE'] ?? '', 10)).toBeLessThan(
        spec.template.spec.terminationGracePeriodSeconds,
      );
      const { matchLabels } = (findManifest(manifests, 'PodDisruptionBudget') as Budget).spec.selector;
      expect(spec.template.metadata.labels).toMatchObject(matchLabels);
      expect(spec.selector.matchLabels).toEqual(matchLabels);
      expect(spec.replicas).toBeGreaterThan(1);
    });

    it('allows one namespace its workspaces, and nothing of them elsewhere', async () => {
      await applyOverlay(cluster, 'namespace');
      const workspaces = { verb: 'list', resource: 'workspaces', group: 'plugset.dev' };
      const exec = { verb: 'create', resource: 'pods', subresource: 'exec' };
      for (const question of [workspaces, exec]) {
        expect(await mayPlugset(question)).toBe(true);
        expect(await mayPlugset({ ...question, namespace: 'others' })).toBe(false);
        expect(await mayPlugset({ ...question, namespace: '' })).toBe(false);
      }
      expect((await configOf('namespace')).store).toMatchObject({ kind: 'kubernetes', namespaces: ['agents'] });
    });

    it('allows the whole cluster the same, and nobody the secrets of anybody', async () => {
      await applyOverlay(cluster, 'cluster');
      expect(await mayPlugset({ verb: 'watch', resource: 'workspaces', group: 'plugset.dev', namespace: '' })).toBe(
        true,
      );
      for (const namespace of ['agents', OWN, '']) {
        for (const verb of ['get', 'list'])
          expect(await mayPlugset({ verb, resource: 'secrets', namespace })).toBe(false);
        expect(await mayPlugset({ verb: 'create', resource: 'pods', namespace })).toBe(false);
      }
      expect(await mayPlugset({ verb: 'update', resource: 'configmaps', namespace: OWN })).toBe(true);
      expect(await mayPlugset({ verb: 'get', resource: 'configmaps' })).toBe(false);
      expect((await configOf('cluster')).engines).toMatchObject([{ namespaces: [] }]);
    });

    it('lets plugset write no ConfigMap but those in which it remembers things', async () => {
      await applyOverlay(cluster, 'namespace');
      const token = await cluster.serviceAccountToken(OWN, 'plugset');
      const path = `/api/v1/namespaces/${OWN}/configmaps`;
      const write = (method: string, name: string): Promise<unknown> =>
        cluster.call(method, method === 'POST' ? path : `${path}/${name}`, {
          token,
          body: method === 'DELETE' ? {} : { metadata: { name }, data: { 'plugset.yaml': 'targets: {}' } },
        });
      const refusal = /plugset writes no ConfigMap but those in which it remembers things/;
      // A policy is in force soon after it was put there.
      await eventually(() => expect(write('POST', 'plugset-other')).rejects.toThrow(refusal));
      for (const method of ['PUT', 'DELETE']) await expect(write(method, 'plugset')).rejects.toThrow(refusal);
      for (const method of ['POST', 'PUT', 'DELETE']) await write(method, 'plugset-state-0');
    });

    it('shows how engines and instances are allowed to a namespace, and to no other', async () => {
      const { engines, engineHosts } = await configOf('docker');
      expect(engines).toEqual([
        {
          name: 'default',
          address: 'ssh://plugset@engine.example.com',
          namespaces: ['agents'],
          containers: ['agent-*'],
        },
      ]);
      const { spec } = (await deploymentOf('docker')).template;
      const mounts = spec.containers[0]?.volumeMounts.map(({ mountPath }) => mountPath) ?? [];
      for (const file of [engineHosts[0]?.keyFile, engineHosts[0]?.knownHostsFile])
        expect(mounts.some((path) => file?.startsWith(`${path}/`))).toBe(true);
      expect((await configOf('ec2')).ec2.regions).toEqual([
        { name: 'us-east-2', namespaces: ['agents'], tags: { team: 'agents' } },
      ]);
    });
  });
});
