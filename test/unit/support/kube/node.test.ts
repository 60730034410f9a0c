import { readdir, readFile } from 'node:fs/promises';
import { endianness } from 'node:os';

import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';

import { withBackend } from '../../../support/backend.ts';
import { eventually } from '../../../support/eventually.ts';
import { createNamespace, removeNamespace } from '../../../support/kube/namespace.ts';
import { KubeNode, nodeAt, type TestNode } from '../../../support/kube/node.ts';
import { deletePod, startPod } from '../../../support/kube/pod.ts';

await withBackend('node', async (address) => {
  const node: TestNode = await nodeAt(address);
  const { cluster } = node;

  describe('a node', () => {
    let namespace: string;

    beforeAll(async () => {
      namespace = await createNamespace(cluster);
    });
    afterAll(() => removeNamespace(cluster, namespace));

    const kubectl = (...args: readonly string[]): Promise<string> => cluster.kubectl(['-n', namespace, ...args]);

    it.each(['busybox', 'debian'] as const)('runs a pod of %s, into which kubectl can go', async (image) => {
      await startPod(node, { name: image, namespace, image });
      expect(await cluster.kubectl(['-n', namespace, 'exec', '-i', image, '--', 'cat'], 'hello')).toBe('hello');
      await expect(kubectl('exec', image, '--', 'sh', '-c', 'exit 7')).rejects.toMatchObject({ cause: { code: 7 } });
      await deletePod(node, namespace, image);
      await expect(cluster.call('GET', `/api/v1/namespaces/${namespace}/pods/${image}`)).rejects.toMatchObject({
        status: 404,
      });
    });
  });

  it('gives a pod the token of its ServiceAccount, and on its own network a way to the API server', async () => {
    const namespace = await createNamespace(cluster);
    onTestFinished(() => removeNamespace(cluster, namespace));
    await startPod(node, { name: 'one', namespace, spec: { automountServiceAccountToken: true, hostNetwork: true } });
    const inPod = (script: string): Promise<string> =>
      cluster.kubectl(['-n', namespace, 'exec', 'one', '--', 'sh', '-c', script]);
    const token = await inPod('cat /var/run/secrets/kubernetes.io/serviceaccount/token');
    const review = { apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' };
    expect(
      await cluster.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', { token, body: review }),
    ).toMatchObject({ status: { userInfo: { username: `system:serviceaccount:${namespace}:default` } } });
    expect(await inPod(`nc 127.0.0.1 ${new URL(cluster.server).port} </dev/null && echo there`)).toContain('there');
  });

  it('sees containers start again', async () => {
    const namespace = await createNamespace(cluster);
    onTestFinished(() => removeNamespace(cluster, namespace));
    await startPod(node, {
      name: 'one',
      namespace,
      container: { command: ['sh', '-c', 'trap exit TERM; sleep 9999 & wait'] },
    });
    // The end of the container may take along what asked for it.
    await cluster.kubectl(['-n', namespace, 'exec', 'one', '--', 'kill', '1']).catch(() => undefined);
    await eventually(async () => {
      const { status } = await cluster.call<PodObject>('GET', `/api/v1/namespaces/${namespace}/pods/one`);
      expect(status.containerStatuses).toMatchObject([{ restartCount: 1, ready: true }]);
    });
  });

  await withBackend('kubelet', (bin) => {
    it('leaves nothing on this machine of a node that was stopped with its pods', async () => {
      const own = await KubeNode.start(cluster, bin);
      const namespace = await createNamespace(cluster);
      onTestFinished(() => removeNamespace(cluster, namespace));
      await startPod(own, { name: 'one', namespace });
      const { status } = await cluster.call<PodObject>('GET', `/api/v1/namespaces/${namespace}/pods/one`);
      const container = status.containerStatuses[0]?.containerID.replace('containerd://', '') ?? 'none';
      const left = async (): Promise<readonly string[]> => [
        ...(await commandLines()).filter((line) => line.includes(own.name) || line.includes(container)),
        ...(await readdir('/sys/fs/cgroup', { recursive: true })).filter((path) => path.endsWith(container)),
        ...(await routes()).filter((destination) => destination === status.podIP),
      ];
      expect((await left()).join('\n')).toMatch(/kubelet(.|\n)*k8s.io(.|\n)*198\.1/);
      await own.stop();
      await eventually(async () => expect(await left()).toEqual([]));
    });
  });
});

interface PodObject {
  readonly status: {
    readonly podIP: string;
    readonly containerStatuses: readonly { readonly containerID: string }[];
  };
}

async function commandLines(): Promise<readonly string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  return Promise.all(pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')));
}

/** Destinations of this machine's routes; the kernel prints an address as a number of its own byte order. */
async function routes(): Promise<readonly string[]> {
  const [, ...lines] = (await readFile('/proc/net/route', 'utf8')).trim().split('\n');
  return lines.map((line) => {
    const address = Buffer.from(line.split('\t')[1] ?? '', 'hex');
    return [...(endianness() === 'LE' ? address.toReversed() : address)].join('.');
  });
}
