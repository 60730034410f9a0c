import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';

import { withBackend } from '../support/backend.ts';
import { connectDocker } from '../support/docker-client.ts';
import type { Cluster } from '../support/kube/cluster.ts';
import { NamespaceWorkspaces } from '../support/kube/cluster-plugset.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { createNamespace } from '../support/kube/namespace.ts';
import { KubeNode } from '../support/kube/node.ts';
import { applyOverlay, findManifest, renderOverlay } from '../support/kube/overlay.ts';
import { startPod } from '../support/kube/pod.ts';
import { buildPlugsetImage } from '../support/plugset-image.ts';

const OWN = 'plugset-system';
/** For building, on a machine that is busy with other tests. */
const BUSY_MS = 600_000;
/** One of the names in the certificate of the API server. */
const API_SERVER = 'kubernetes.default.svc';

const { version } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

interface PodTemplate {
  readonly metadata: { readonly labels: object };
  readonly spec: {
    readonly containers: readonly { readonly env: readonly object[]; readonly volumeMounts: readonly object[] }[];
    readonly volumes: readonly object[];
  };
}

await withBackend('docker', async (engine) => {
  await withBackend('kube-apiserver', async (programs) => {
    await withBackend('kubelet', (kubelet) => define(engine, programs, kubelet));
  });
});

/** `programs`, `kubelet`: directories of them. */
function define(engine: string, programs: string, kubelet: string): void {
  describe('the image, in a pod of the Deployment', () => {
    let plane: ControlPlane;
    let cluster: Cluster;
    let node: KubeNode;
    let way: WayIn;

    beforeAll(async () => {
      plane = await ControlPlane.start(programs);
      ({ cluster } = plane);
      node = await KubeNode.start(cluster, kubelet);
      await importImage(engine, node);
      for (const name of [OWN, 'agents']) await createNamespace(cluster, name);
      way = await WayIn.open(cluster);
    }, BUSY_MS);
    afterAll(async () => {
      await way?.close();
      await node?.stop();
      await plane?.stop();
    });

    /** The Deployment's own pod on this node, with a plugin in its registry and a way to the API server. */
    const pod = async (gateway: string): Promise<object> => {
      const { spec } = findManifest(await renderOverlay(cluster, 'cluster'), 'Deployment') as {
        readonly spec: { readonly template: PodTemplate };
      };
      const { metadata, spec: template } = spec.template;
      const [container] = template.containers;
      const env = [
        { name: 'KUBERNETES_SERVICE_HOST', value: API_SERVER },
        { name: 'KUBERNETES_SERVICE_PORT', value: String(way.port) },
      ];
      const plugin = { name: 'greeter', mountPath: '/plugins/greeter/SKILL.md', subPath: 'SKILL.md' };
      return {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { ...metadata, name: 'plugset', namespace: OWN },
        spec: {
          ...template,
          nodeName: node.name,
          hostAliases: [{ ip: gateway, hostnames: [API_SERVER] }],
          containers: [
            {
              ...container,
              image: 'docker.io/library/plugset-test-image:latest',
              imagePullPolicy: 'Never',
              env: [...(container?.env ?? []), ...env],
              volumeMounts: [...(container?.volumeMounts ?? []), plugin],
            },
          ],
          volumes: [...template.volumes, { name: 'greeter', configMap: { name: 'greeter' } }],
        },
      };
    };

    it(
      'is ready, and converges a workspace',
      async () => {
        await applyOverlay(cluster, 'cluster');
        const maps = `/api/v1/namespaces/${OWN}/configmaps`;
        const { data } = await cluster.call<{ readonly data: Readonly<Record<string, string>> }>(
          'GET',
          `${maps}/plugset`,
        );
        const settings = parse(data['plugset.yaml'] ?? '') as object;
        await cluster.call('PATCH', `${maps}/plugset`, {
          contentType: 'application/merge-patch+json',
          body: { data: { 'plugset.yaml': stringify({ ...settings, sources: { registries: ['/plugins'] } }) } },
        });
        await cluster.call('POST', maps, { body: { metadata: { name: 'greeter' }, data: { 'SKILL.md': 'hello\n' } } });
        const labels = { 'plugset.dev/workspace': 'alice' };
        await startPod(node, { name: 'agent', namespace: 'agents', labels });
        const { status } = await cluster.call<{ readonly status: { readonly podIP: string } }>(
          'GET',
          '/api/v1/namespaces/agents/pods/agent',
        );
        await cluster.call('POST', `/api/v1/namespaces/${OWN}/pods`, {
          body: await pod(status.podIP.replace(/\d+$/, '1')),
        });
        const workspaces = new NamespaceWorkspaces(cluster, 'agents');
        await workspaces.declare('alice', { pod: {} }, ['greeter']);
        try {
          await cluster.kubectl(['wait', '-n', OWN, 'pod/plugset', '--for=condition=Ready', '--timeout=180s']);
          await workspaces.untilReady('alice');
        } catch (error) {
          const seen = await cluster.kubectl(['describe', '-n', OWN, 'pod', 'plugset']);
          const log = await cluster.kubectl(['logs', '-n', OWN, 'plugset']).catch(String);
          throw new Error(`${seen}\n${log}`, { cause: error });
        }
        const inPod = (namespace: string, name: string, ...argv: readonly string[]): Promise<string> =>
          cluster.kubectl(['exec', '-n', namespace, name, '--', ...argv]);
        expect(await inPod('agents', 'agent', 'cat', '/configs/plugins/greeter/SKILL.md')).toBe('hello\n');
        expect(await inPod(OWN, 'plugset', 'id', '-u')).toBe('10001\n');
        await expect(inPod(OWN, 'plugset', 'touch', '/opt/plugset/x')).rejects.toThrow(/Read-only file system/);
      },
      BUSY_MS,
    );
  });
}

/** As a registry would have done it. */
async function importImage(engine: string, node: KubeNode): Promise<void> {
  const docker = connectDocker(engine);
  const image = await buildPlugsetImage(docker, engine, version);
  const dir = await mkdtemp(join(tmpdir(), 'plugset-image-'));
  try {
    const archive = join(dir, `${randomBytes(4).toString('hex')}.tar`);
    await pipeline(await docker.getImage(image).get(), createWriteStream(archive));
    await node.importImage(archive);
  } finally {
    await rm(dir, { recursive: true });
  }
}

/** Leads pods, which have addresses of their own, to an API server that listens on loopback. */
class WayIn {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as AddressInfo).port;
  }

  static async open(cluster: Cluster): Promise<WayIn> {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => {
      const there = connect(Number(new URL(cluster.server).port), '127.0.0.1');
      for (const [one, other] of [
        [socket, there],
        [there, socket],
      ] as const) {
        sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => {
          sockets.delete(one);
          other.destroy();
        });
        one.pipe(other);
      }
    });
    server.listen(0);
    await once(server, 'listening');
    return new WayIn(server, sockets);
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
