import { execFile, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type { Cluster } from '../support/kube/cluster.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { writePlugin } from '../support/plugset.ts';
import { startController, type Program } from './controller-life.ts';
import { load, median, timed } from './measure.ts';
import type { Row } from './table.ts';

const OBJECTS = 10_000;
const PLUGINS = ['plugin-0', 'plugin-1', 'plugin-2', 'plugin-3', 'plugin-4'];
/** What Node gives itself, of old objects, in a pod of the base's limit of 1 GiB: without it V8 takes what the machine has. */
const HEAP_MIB = 476;
/** What an edit switches the first plugin to, and back. */
const EDITION = 'edition-b';
const LIVES = 5;
const EDITS = 41;
const AT_ONCE = 32;

const PEER = fileURLToPath(new URL('peers/controller-runtime', import.meta.url));
const NULL_PLUGSET = fileURLToPath(new URL('null-plugset.mjs', import.meta.url));

export function hasGo(): boolean {
  return spawnSync('go', ['version']).status === 0;
}

interface Side {
  /** Lives after the first one: everything is as declared, and only has to be seen. */
  readonly startMs: readonly number[];
  readonly memory: number;
  readonly editMs: readonly number[];
  /** Requests of the last such life that were no list, no watch and nothing of the lease. */
  readonly requests: number;
}

/** Each side has a cluster of its own, with the same objects, and nobody else in it. */
export async function benchFleetOfObjects(programs: string): Promise<readonly Row[]> {
  const directory = await mkdtemp(join(tmpdir(), 'plugset-objects-'));
  try {
    const peer = join(directory, 'controller');
    await promisify(execFile)('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', peer, '.'], { cwd: PEER });
    for (const plugin of [...PLUGINS, EDITION])
      await writePlugin(join(directory, 'registry', plugin), { 'SKILL.md': `# ${plugin}\n` });
    const against = await measure(programs, join(directory, 'theirs'), ({ kubeconfig, log }) => ({
      command: peer,
      args: [],
      environment: { KUBECONFIG: kubeconfig, COUNT: `${OBJECTS}` },
      log,
    }));
    const ours = await measure(programs, join(directory, 'ours'), ({ account, server, log, home }) => ({
      command: process.execPath,
      args: [
        `--max-old-space-size=${HEAP_MIB}`,
        NULL_PLUGSET,
        ...['--kubernetes', '--registry', join(directory, 'registry')],
        ...['--listen', '127.0.0.1:0', '--first-pass-rate', '100000', '--workers', '16'],
        ...['--', `${OBJECTS}`, join(home, 'notes'), account],
      ],
      environment: {
        PATH: process.env['PATH'] ?? '',
        HOME: home,
        KUBERNETES_SERVICE_HOST: server.hostname,
        KUBERNETES_SERVICE_PORT: server.port,
      },
      log,
    }));
    return rowsOf(ours, against);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function rowsOf(ours: Side, against: Side): readonly Row[] {
  const peer = 'controller-runtime';
  const row = (what: string, unit: string, of: (side: Side) => number, most: number): Row => {
    const ratio = of(ours) / of(against);
    return {
      what,
      tier: '-',
      ours: `${of(ours).toFixed(0)} ${unit}`,
      against: `${of(against).toFixed(0)} ${unit} ${peer}`,
      figure: `${ratio.toFixed(2)} x`,
      wanted: { text: `<= ${most} x`, isMet: ratio <= most },
    };
  };
  return [
    row(`${OBJECTS} objects as declared: start to each checked`, 'ms', ({ startMs }) => median(startMs), 1.5),
    row('the same: memory, highest', 'MiB', ({ memory }) => memory, 3),
    row('spec edit to status written, idle', 'ms', ({ editMs }) => median(editMs), 2),
    {
      what: `API requests of ${OBJECTS} passes without work (${load()})`,
      tier: '-',
      ours: `${ours.requests}`,
      against: `${against.requests} ${peer}`,
      figure: '',
      wanted: { text: '0', isMet: ours.requests === 0 },
    },
  ];
}

/** What a controller of one side is given: both ways to the cluster, and a place of its own. */
interface Given {
  readonly home: string;
  readonly log: string;
  readonly kubeconfig: string;
  /** As the kubelet has it for a pod. */
  readonly account: string;
  readonly server: URL;
}

async function measure(programs: string, home: string, programOf: (given: Given) => Program): Promise<Side> {
  await mkdir(home, { recursive: true });
  const plane = await ControlPlane.start(programs);
  try {
    const { cluster } = plane;
    await installWorkspaceCrd(cluster);
    await createObjects(cluster);
    const program = programOf(await givenBy(cluster, home));
    const first = await startController(program);
    await untilAllReady(cluster);
    await first.stop();
    const startMs: number[] = [];
    const memory: number[] = [];
    for (let life = 1; life < LIVES; life++) {
      const controller = await startController(program);
      startMs.push(controller.checkedAfterMs);
      memory.push(await controller.highestMemory());
      await controller.stop();
    }
    const eventsBefore = (await cluster.auditEvents()).length;
    const last = await startController(program);
    try {
      startMs.push(last.checkedAfterMs);
      // Whatever the passes have to ask, they ask before this is answered.
      const editMs = [];
      const requests = (await cluster.auditEvents()).slice(eventsBefore).filter(isOfAPass).length;
      for (let edit = 0; edit < EDITS; edit++) editMs.push(await editAndWait(cluster, edit));
      memory.push(await last.highestMemory());
      return { startMs, memory: median(memory), editMs, requests };
    } finally {
      await last.stop();
    }
  } finally {
    await plane.stop();
  }
}

async function givenBy(cluster: Cluster, home: string): Promise<Given> {
  const [kubeconfig, account] = [join(home, 'kubeconfig'), join(home, 'account')];
  await mkdir(account);
  await writeFile(kubeconfig, cluster.kubeconfig('admin'));
  const files = { 'ca.crt': cluster.ca, token: cluster.tokens.admin, namespace: 'default' };
  for (const [name, text] of Object.entries(files)) await writeFile(join(account, name), text);
  return { home, log: join(home, 'log'), kubeconfig, account, server: new URL(cluster.server) };
}

function isOfAPass({ verb, objectRef }: { verb: string; objectRef?: { resource?: string; name?: string } }): boolean {
  return objectRef?.resource === 'workspaces' && verb !== 'list' && verb !== 'watch';
}

function nameOf(index: number): string {
  return `fleet-${index}`;
}

async function createObjects(cluster: Cluster): Promise<void> {
  let next = 0;
  const create = async (): Promise<void> => {
    for (let index = next++; index < OBJECTS; index = next++)
      await cluster.call('POST', workspacesIn('default'), { body: workspaceObject(index) });
  };
  await Promise.all(Array.from({ length: AT_ONCE }, create));
}

function workspaceObject(index: number): object {
  return {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name: nameOf(index), namespace: 'default' },
    spec: {
      runtime: 'claude-code',
      target: { directory: { path: `/srv/agents/${nameOf(index)}` } },
      plugins: PLUGINS.map((name) => ({ name, source: name })),
    },
  };
}

interface StatusOf {
  readonly metadata: { readonly generation: number };
  readonly status?: {
    readonly observedGeneration?: number;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
  };
}

function isReady({ metadata, status }: StatusOf): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return status?.observedGeneration === metadata.generation && ready?.status === 'True';
}

async function untilAllReady(cluster: Cluster): Promise<void> {
  for (;;) {
    const { items } = await cluster.call<{ readonly items: readonly StatusOf[] }>(
      'GET',
      `${workspacesIn('default')}?resourceVersion=0`,
    );
    if (items.every(isReady)) return;
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }
}

/** From before the edit is asked for until a reader sees the status of it. */
async function editAndWait(cluster: Cluster, edit: number): Promise<number> {
  const path = `${workspacesIn('default')}/${nameOf(edit)}`;
  const source = EDITION;
  return timed(async () => {
    await cluster.call('PATCH', path, {
      contentType: 'application/json-patch+json',
      body: [{ op: 'replace', path: '/spec/plugins/0/source', value: source }],
    });
    while (!isReady(await cluster.call<StatusOf>('GET', path)));
  });
}
