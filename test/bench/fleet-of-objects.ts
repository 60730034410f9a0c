import { execFile, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type { Cluster } from '../support/kube/cluster.ts';
import { ControlPlane } from '../support/kube/control-plane.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';
import { startController, type Program } from './controller-life.ts';
import {
  createObjects,
  editObject,
  givenBy,
  isReady,
  nullPlugset,
  pathOf,
  untilAllReady,
  writeRegistry,
  type Given,
  type ObjectRead,
} from './declared-objects.ts';
import { load, median, timed } from './measure.ts';
import type { Row } from './table.ts';

const OBJECTS = 10_000;
const LIVES = 5;
const EDITS = 41;

const PEER = fileURLToPath(new URL('peers/controller-runtime', import.meta.url));

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
    const registry = await writeRegistry(directory);
    const against = await measure(programs, join(directory, 'theirs'), ({ kubeconfig, log }) => ({
      command: peer,
      args: [],
      environment: { KUBECONFIG: kubeconfig, COUNT: `${OBJECTS}` },
      log,
    }));
    const ours = await measure(programs, join(directory, 'ours'), (given) => nullPlugset(given, registry, OBJECTS));
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

async function measure(programs: string, home: string, programOf: (given: Given) => Program): Promise<Side> {
  await mkdir(home, { recursive: true });
  const plane = await ControlPlane.start(programs);
  try {
    const { cluster } = plane;
    await installWorkspaceCrd(cluster);
    await createObjects(cluster, OBJECTS);
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

function isOfAPass({ verb, objectRef }: { verb: string; objectRef?: { resource?: string; name?: string } }): boolean {
  return objectRef?.resource === 'workspaces' && verb !== 'list' && verb !== 'watch';
}

/** From before the edit is asked for until a reader sees the status of it. */
async function editAndWait(cluster: Cluster, edit: number): Promise<number> {
  return timed(async () => {
    await editObject(cluster, edit);
    while (!isReady(await cluster.call<ObjectRead>('GET', pathOf(edit))));
  });
}
