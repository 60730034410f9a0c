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
  await cluster.kubectl(['wait', '--for=condition=Established', 'crd/workspaces.plugset.dev', '--timeout=60s']);
  // Established is said a moment before they are served, and before kubectl hears of their short name.
  await eventually(() => cluster.kubectl(['get', 'pws']), 60_000);
}
