import { fileURLToPath } from 'node:url';

import { eventually } from '../eventually.ts';
import type { Cluster } from './cluster.ts';

const FILE = fileURLToPath(new URL('../../../manifests/kustomize/base/crd.yaml', import.meta.url));

/** Where the workspaces of a namespace are. */
export function workspacesIn(namespace: string): string {
  return `/apis/plugset.dev/v1alpha1/namespaces/${namespace}/workspaces`;
}

/** Applies the committed definition, as people do, and waits until there are workspaces. The cluster keeps it. */
export async function installWorkspaceCrd(cluster: Cluster): Promise<void> {
  await cluster.kubectl(['apply', '--server-side', '--warnings-as-errors', '-f', FILE]);
  await untilWorkspacesAreServed(cluster);
}

/** By asking: a definition that was made just now has no conditions, over which `kubectl wait` fails, and it is established before it is served. */
export async function untilWorkspacesAreServed(cluster: Cluster): Promise<void> {
  await eventually(() => cluster.kubectl(['get', 'pws']));
}
