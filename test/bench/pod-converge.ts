import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { KubeAccess } from '../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../src/adapters/kube/kube-client.ts';
import { PodTargetProvider } from '../../src/adapters/kube/pod-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { TestImage } from '../support/docker-images.ts';
import { ClusterError } from '../support/kube/cluster.ts';
import type { TestNode } from '../support/kube/node.ts';
import { deletePod, startPod } from '../support/kube/pod.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { interleave, PAIRS, timed } from './measure.ts';
import { timesAsLong, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

/** Of the bench's workspaces, and so of their pods. */
const NAMESPACE = 'default';
const PIPE = 'tar -C "$1" -cf - . | "$2" exec -i -n "$3" "$4" -- tar -C /configs -xf -';

/** A pod that has no plugins yet: the whole pass, from the row in Postgres to the status that it writes. */
export async function benchPodConverge(postgres: string, node: TestNode): Promise<readonly Row[]> {
  await createServiceAccount(node);
  return [...(await convergedIn('debian', postgres, node)), ...(await convergedIn('busybox', postgres, node))];
}

async function convergedIn(image: TestImage, postgres: string, node: TestNode): Promise<readonly Row[]> {
  const { client, provider } = providerFor(node);
  const workshop = await openWorkshop({ docker: provider, postgres, tier: 'deep' });
  let made = 0;
  const withPod = async (work: (name: string) => Promise<number>): Promise<number> => {
    const name = `fresh-${image}-${made++}`;
    await startPod(node, { name, namespace: NAMESPACE, image, labels: { 'plugset.dev/workspace': name } });
    try {
      return await work(name);
    } finally {
      await deletePod(node, NAMESPACE, name);
    }
  };
  const runs: number[] = [];
  try {
    const pairs = await interleave({
      ours: () =>
        withPod(async (name) => {
          await workshop.declareAt(name, { pod: {} });
          const { wholeMs, phases } = await workshop.pass(name);
          runs.push(phases.get('converge') ?? Number.NaN);
          return wholeMs;
        }),
      against: () => withPod((name) => timed(() => tarThroughKubectl(node, workshop.registry, name))),
    });
    const againstWhat = 'tar | kubectl exec tar -x';
    const subject = (what: string) => ({ what, tier: 'deep', againstWhat }) as const;
    return [
      timesAsLong(subject(`first converge of a pod, 10 plugins, 50 files, ${image}: the whole pass`), pairs, 2),
      timesAsLong(subject('  its one exec: check, apply, look'), { ...pairs, ours: runs.slice(-PAIRS) }),
    ];
  } finally {
    await workshop.close();
    client.close();
  }
}

function providerFor({ cluster }: TestNode): {
  readonly client: KubeClient;
  readonly provider: PodTargetProvider;
} {
  const connection = {
    server: new URL(cluster.server),
    tls: { ca: cluster.ca },
    headers: { Authorization: `Bearer ${cluster.tokens.admin}` },
    namespace: NAMESPACE,
  };
  const clock = new SystemClock();
  const access = new KubeAccess({ open: async () => async () => connection, clock });
  const client = new KubeClient({ access, clock });
  const [logger, metrics] = [new RecordingLogger(), recordingMetrics()];
  return { client, provider: new PodTargetProvider({ allowed: {}, client, logger, metrics }) };
}

/** Elsewhere the controller manager does. */
async function createServiceAccount({ cluster }: TestNode): Promise<void> {
  const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } };
  await cluster.call('POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`, { body }).catch((error: unknown) => {
    if (!(error instanceof ClusterError) || error.status !== 409) throw error;
  });
}

/** The shortest way from a directory into a pod that a person would type. */
async function tarThroughKubectl({ cluster }: TestNode, from: string, pod: string): Promise<void> {
  const argv = ['-c', PIPE, 'sh', from, cluster.kubectlPath, NAMESPACE, pod];
  const child = spawn('sh', argv, { env: cluster.environment, stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`tar | kubectl exec tar ended with ${code}`);
}
