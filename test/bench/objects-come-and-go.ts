import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ControlPlane } from '../support/kube/control-plane.ts';
import { installWorkspaceCrd } from '../support/kube/workspace-crd.ts';
import {
  createObjects,
  deleteObjects,
  editObjects,
  givenBy,
  nullPlugset,
  untilAllReady,
  writeRegistry,
} from './declared-objects.ts';
import type { Row } from './table.ts';

const OBJECTS = 10_000;
const ROUNDS = 5;
/** What caches and compiled code may still grow by after the first round. */
const MOST = 1.1;

/** Whether what plugset knows of objects goes with them: its heap in use, with nothing declared, round after round. */
export async function benchComingAndGoing(programs: string): Promise<readonly Row[]> {
  const home = await mkdtemp(join(tmpdir(), 'plugset-objects-'));
  const plane = await ControlPlane.start(programs);
  let child: ChildProcess | undefined;
  try {
    const { cluster } = plane;
    await installWorkspaceCrd(cluster);
    const given = await givenBy(cluster, home);
    const program = nullPlugset(given, await writeRegistry(home), OBJECTS, ['--expose-gc']);
    child = spawn(program.command, program.args, { env: program.environment, stdio: ['ignore', 'ignore', 'pipe'] });
    child.stderr?.pipe(createWriteStream(program.log));
    const heaps: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      // Or the guard of the fleet holds up so many deletions within an hour.
      await createObjects(cluster, OBJECTS, { allowEmpty: true });
      await untilAllReady(cluster);
      await editObjects(cluster, OBJECTS);
      await untilAllReady(cluster);
      await deleteObjects(cluster, OBJECTS);
      heaps.push(await heapInUse(child, program.log, round));
    }
    return [rowOf(heaps)];
  } finally {
    if (child !== undefined && child.exitCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    await plane.stop();
    await rm(home, { recursive: true, force: true });
  }
}

/** MiB, after a collection of garbage; `asked`: how often that was asked for before. */
async function heapInUse(child: ChildProcess, log: string, asked: number): Promise<number> {
  child.kill('SIGUSR2');
  for (;;) {
    if (child.exitCode !== null) throw new Error(`plugset ended: ${await readFile(log, 'utf8')}`);
    const told = [...(await readFile(log, 'utf8')).matchAll(/^heap (\d+)$/gm)].map(([, bytes]) => Number(bytes));
    const bytes = told[asked];
    if (bytes !== undefined) return bytes / 1024 / 1024;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

function rowOf(heaps: readonly number[]): Row {
  const [first = Number.NaN] = heaps;
  const last = heaps.at(-1) ?? Number.NaN;
  return {
    what: `${OBJECTS} objects made, edited and deleted ${ROUNDS} times: heap with none left`,
    tier: '-',
    ours: heaps.map((heap) => heap.toFixed(1)).join(', ') + ' MiB',
    against: 'its first round',
    figure: `${(last / first).toFixed(2)} x`,
    wanted: { text: `<= ${MOST} x`, isMet: last <= first * MOST },
  };
}
