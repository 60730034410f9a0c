import { fileURLToPath } from 'node:url';

import { parseAllDocuments } from 'yaml';

import type { Cluster } from './cluster.ts';

const ROOT = fileURLToPath(new URL('../../../manifests/kustomize/overlays/', import.meta.url));

export const OVERLAYS = ['cluster', 'namespace', 'docker', 'ec2'] as const;

export type OverlayName = (typeof OVERLAYS)[number];

export interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** What an overlay comes to. */
export async function renderOverlay(cluster: Cluster, name: OverlayName): Promise<readonly Manifest[]> {
  const text = await cluster.kubectl(['kustomize', `${ROOT}${name}`]);
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

/** Applies an overlay as README says; rejects also where the API server warns of something. */
export async function applyOverlay(cluster: Cluster, name: OverlayName): Promise<string> {
  const strictly = ['--server-side', '--validate=strict', '--warnings-as-errors'];
  return cluster.kubectl(['apply', ...strictly, '-k', `${ROOT}${name}`]);
}

/** One of them, for its reader to know what it looks like. */
export function findManifest(manifests: readonly Manifest[], kind: string, name = 'plugset'): unknown {
  const found = manifests.find((manifest) => manifest.kind === kind && manifest.metadata.name === name);
  if (found === undefined) throw new Error(`there is no ${kind} ${name}`);
  return found;
}
