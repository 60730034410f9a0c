import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import type { Cluster } from '../support/kube/cluster.ts';
import { workspacesIn } from '../support/kube/workspace-crd.ts';
import { writePlugin } from '../support/plugset.ts';
import type { Program } from './controller-life.ts';

const PLUGINS = ['plugin-0', 'plugin-1', 'plugin-2', 'plugin-3', 'plugin-4'];
/** What an edit switches the first plugin to. */
const EDITION = 'edition-b';
const AT_ONCE = 32;
/** What Node gives itself, of old objects, in a pod of the base's limit of 1 GiB: without it V8 takes what the machine has. */
const HEAP_MIB = 476;

const NULL_PLUGSET = fileURLToPath(new URL('null-plugset.mjs', import.meta.url));

/** What a controller of one side is given: both ways to the cluster, and a place of its own. */
export interface Given {
  readonly home: string;
  readonly log: string;
  readonly kubeconfig: string;
  /** As the kubelet has it for a pod. */
  readonly account: string;
  readonly server: URL;
}

export async function givenBy(cluster: Cluster, home: string): Promise<Given> {
  const [kubeconfig, account] = [join(home, 'kubeconfig'), join(home, 'account')];
  await mkdir(account);
  await writeFile(kubeconfig, cluster.kubeconfig('admin'));
  const files = { 'ca.crt': cluster.ca, token: cluster.tokens.admin, namespace: 'default' };
  for (const [name, text] of Object.entries(files)) await writeFile(join(account, name), text);
  return { home, log: join(home, 'log'), kubeconfig, account, server: new URL(cluster.server) };
}

/** With all that the objects name; answers where it is. */
export async function writeRegistry(directory: string): Promise<string> {
  const registry = join(directory, 'registry');
  for (const plugin of [...PLUGINS, EDITION])
    await writePlugin(join(registry, plugin), { 'SKILL.md': `# ${plugin}\n` });
  return registry;
}

/** plugset over targets that are notes; `count`: how many it is to look at before it prints `checked`. */
export function nullPlugset(
  { account, server, log, home }: Given,
  registry: string,
  count: number,
  node: readonly string[] = [],
): Program {
  return {
    command: process.execPath,
    args: [
      `--max-old-space-size=${HEAP_MIB}`,
      ...node,
      NULL_PLUGSET,
      ...['--kubernetes', '--registry', registry],
      ...['--listen', '127.0.0.1:0', '--first-pass-rate', '100000', '--workers', '16'],
      ...['--', `${count}`, join(home, 'notes'), account],
    ],
    environment: {
      PATH: process.env['PATH'] ?? '',
      HOME: home,
      KUBERNETES_SERVICE_HOST: server.hostname,
      KUBERNETES_SERVICE_PORT: server.port,
    },
    log,
  };
}

function nameOf(index: number): string {
  return `fleet-${index}`;
}

export function pathOf(index: number): string {
  return `${workspacesIn('default')}/${nameOf(index)}`;
}

export async function createObjects(cluster: Cluster, count: number, policy = {}): Promise<void> {
  await eachOf(count, (index) =>
    cluster.call('POST', workspacesIn('default'), { body: workspaceObject(index, policy) }),
  );
}

function workspaceObject(index: number, policy: object): object {
  return {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name: nameOf(index), namespace: 'default' },
    spec: {
      runtime: 'claude-code',
      target: { directory: { path: `/srv/agents/${nameOf(index)}` } },
      plugins: PLUGINS.map((name) => ({ name, source: name })),
      policy,
    },
  };
}

export interface ObjectRead {
  readonly metadata: { readonly generation: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

export function isReady({ metadata, status }: ObjectRead): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return status?.observedGeneration === metadata.generation && ready?.status === 'True';
}

export async function untilAllReady(cluster: Cluster): Promise<void> {
  for (;;) {
    if ((await readAll(cluster)).every(isReady)) return;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
}

/** It has another plugin in the place of its first. */
export async function editObject(cluster: Cluster, index: number): Promise<void> {
  await cluster.call('PATCH', pathOf(index), {
    contentType: 'application/json-patch+json',
    body: [{ op: 'replace', path: '/spec/plugins/0/source', value: EDITION }],
  });
}

export async function editObjects(cluster: Cluster, count: number): Promise<void> {
  await eachOf(count, (index) => editObject(cluster, index));
}

/** Resolves when the last of them is gone. */
export async function deleteObjects(cluster: Cluster, count: number): Promise<void> {
  await eachOf(count, (index) => cluster.call('DELETE', pathOf(index)));
  while ((await readAll(cluster)).length > 0) await new Promise((resolve) => setTimeout(resolve, 2_000));
}

async function readAll(cluster: Cluster): Promise<readonly ObjectRead[]> {
  const path = `${workspacesIn('default')}?resourceVersion=0`;
  return (await cluster.call<{ readonly items: readonly ObjectRead[] }>('GET', path)).items;
}

async function eachOf(count: number, work: (index: number) => Promise<unknown>): Promise<void> {
  await mapAtOnce(AT_ONCE, [...Array(count).keys()], work);
}
