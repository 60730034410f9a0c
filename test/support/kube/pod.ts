import type { TestImage } from '../docker-images.ts';
import { imageName } from './node-image.ts';
import type { TestNode } from './node.ts';

export interface PodOptions {
  readonly name: string;
  readonly namespace: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Default `busybox`, sleeping. */
  readonly image?: TestImage;
  /** Laid over the one container, which is called `main`. */
  readonly container?: object;
  /** Laid over the pod's spec. */
  readonly spec?: object;
}

const WAIT = '--timeout=120s';

/** A pod as kubelet starts it, for tests: no scheduler has chosen its node, and it is ended without a grace period. */
export function podManifest(node: TestNode, { name, namespace, labels, image, container, spec }: PodOptions): object {
  const main = { name: 'main', image: imageName(image ?? 'busybox'), imagePullPolicy: 'Never', ...container };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace, labels },
    spec: {
      nodeName: node.name,
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [main],
      ...spec,
    },
  };
}

/** Creates a pod and waits until it is ready. It goes with its namespace, or by `deletePod`. */
export async function startPod(node: TestNode, options: PodOptions): Promise<void> {
  const { name, namespace } = options;
  await node.cluster.call('POST', `/api/v1/namespaces/${namespace}/pods`, { body: podManifest(node, options) });
  await node.cluster.kubectl(['wait', '-n', namespace, `pod/${name}`, '--for=condition=Ready', WAIT]);
}

/** Deletes a pod and waits until it is gone. */
export async function deletePod(node: TestNode, namespace: string, name: string): Promise<void> {
  await node.cluster.kubectl(['delete', '-n', namespace, 'pod', name, WAIT]);
}
