import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterAll, expect, test } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { ContainerConsole } from '../support/container-console.ts';
import { createContainerHost } from '../support/container-host.ts';
import { BUSYBOX, busyboxTools, createDirectoryHost, TOOLS, type Programs } from '../support/directory-host.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { KillSwitch } from '../support/kill-switch.ts';
import { tempDir } from '../support/temp-dir.ts';
import { KillRig } from './apply-kill.ts';

/*
 * The promise of the apply: killed at any point, every tree is the old one or the new one, and whoever comes next ends
 * it. A shim before every program kills the whole process group before or after each of them in turn: on every shell and
 * set of tools, and in a container.
 */

/** What a machine has besides the shell itself. */
const SHIMMED = TOOLS.filter((tool) => tool !== 'sh');
/** Mostly they wait: for a child, an exec, a FIFO that nobody opens. */
const LANES = 3;

interface Place {
  readonly create: () => Promise<KillRig>;
  readonly dispose: () => Promise<void>;
}

const FLAVOURS: readonly { name: string; programs: Programs; appletsWin: boolean }[] = [
  { name: 'dash, GNU tools', programs: { sh: '/bin/dash' }, appletsWin: false },
  { name: 'dash, GNU tools without flock', programs: { sh: '/bin/dash', flock: undefined }, appletsWin: false },
  { name: 'bash, GNU tools', programs: { sh: '/bin/bash' }, appletsWin: false },
  { name: 'dash, busybox tools', programs: { ...busyboxTools(), sh: '/bin/dash' }, appletsWin: false },
  { name: 'busybox', programs: { ...busyboxTools(), flock: undefined }, appletsWin: true },
];

/** As this test's own user. Busybox where there is one: a process less for each of its applets. */
async function localShell(script: string): Promise<string> {
  const busybox = existsSync(BUSYBOX);
  const args = [...(busybox ? ['sh'] : []), '-euc', script];
  return (await promisify(execFile)(busybox ? BUSYBOX : '/bin/sh', args)).stdout;
}

function placeOf(programs: Programs, appletsWin: boolean, open = KillRig.create): Place {
  const hosts: Awaited<ReturnType<typeof createDirectoryHost>>[] = [];
  return {
    async create() {
      const host = await createDirectoryHost({ programs, disk: 'shared' });
      hosts.push(host);
      const paths = { real: host.bin, dir: `${host.bin}-doomed`, interpreter: '/bin/dash' };
      const killSwitch = await KillSwitch.install({ shell: localShell, tools: SHIMMED, appletsWin, ...paths });
      return open({ host, killSwitch, shell: localShell });
    },
    async dispose() {
      await Promise.all(hosts.splice(0).map((host) => host.dispose()));
    },
  };
}

async function killEverywhere(place: Place, atLeast = 30): Promise<void> {
  try {
    const first = await place.create();
    const commands = await first.countCommands();
    expect(commands).toBeGreaterThan(atLeast);
    const points = Array.from({ length: commands }, (_, at) => at + 1);
    await inLanes(place, first, points, async (rig, command) => {
      await rig.killAndRecover(command, 'before');
      await rig.killAndRecover(command, 'after');
    });
  } finally {
    await place.dispose();
  }
}

/** Every point once, by whichever rig is free. */
async function inLanes<T>(
  place: Place,
  first: KillRig,
  points: readonly T[],
  kill: (rig: KillRig, point: T) => Promise<void>,
): Promise<void> {
  const left = points[Symbol.iterator]();
  const others = Array.from({ length: LANES - 1 }, () => place.create());
  const lanes = await Promise.allSettled(
    [first, ...others].map(async (rig) => {
      for (const point of left) await kill(await rig, point);
    }),
  );
  // Not before all of them are through: what they work on is about to go.
  for (const lane of lanes) if (lane.status === 'rejected') throw lane.reason;
}

for (const { name, programs, appletsWin } of FLAVOURS) {
  const isMissing = Object.values(programs).some((program) => program !== undefined && !existsSync(program));
  test.skipIf(isMissing && process.env['CI'] !== 'true')(
    `killed before and after every command: ${name}`,
    { timeout: 300_000 },
    () => killEverywhere(placeOf(programs, appletsWin)),
  );
  test.skipIf(isMissing && process.env['CI'] !== 'true')(
    `killed before and after every command of the first apply: ${name}`,
    { timeout: 300_000 },
    () => killEverywhere(placeOf(programs, appletsWin, KillRig.createBlank), 12),
  );
}

/** Dies of the first call for so many sources that it finds armed, when it has moved some of them. */
const DYING_MV = (armed: string): string => `#!/bin/dash
if [ "$#" -gt 3 ] && [ -e ${armed} ]; then
  read -r calls moves <${armed}
  if [ "$calls" -gt 0 ]; then
    echo "$((calls - 1)) $moves" >${armed}
  else
    rm ${armed}
    for place; do :; done
    while [ "$moves" -gt 0 ]; do
      /usr/bin/mv "$1" "$place"
      shift
      moves=$((moves - 1))
    done
    kill -9 0
  fi
fi
exec /usr/bin/mv "$@"
`;

test('killed between the renames of the first apply', { timeout: 300_000 }, async () => {
  const dir = await tempDir();
  await chmod(dir, 0o777);
  const [mv, armed] = [join(dir, 'mv'), join(dir, 'armed')];
  await writeFile(mv, DYING_MV(armed), { mode: 0o755 });
  const place = placeOf({ sh: '/bin/dash', mv }, false, KillRig.createBlank);
  try {
    const rig = await place.create();
    // The commit with its five, then the trees.
    for (const [calls, sources] of [
      [0, 5],
      [1, 4],
    ] as const)
      for (let moves = 0; moves <= sources; moves++) {
        await localShell(`echo "${calls} ${moves}" >${armed}; chmod 666 ${armed}`);
        await rig.dieAndRecover(`${moves} of ${sources} renames`);
        expect(existsSync(armed)).toBe(false);
      }
  } finally {
    await place.dispose();
  }
});

test('killed again while it recovers', { timeout: 300_000 }, async () => {
  const place = placeOf({ sh: '/bin/dash' }, false);
  try {
    const rig = await place.create();
    const commands = await rig.countCommands();
    const points: [number, number][] = [];
    for (let first = 14; first <= commands - 8; first += 4)
      for (let second = 8 + (first % 3); second <= commands; second += 9) points.push([first, second]);
    await inLanes(place, rig, points, (free, [first, second]) => free.killTwiceAndRecover(first, second));
  } finally {
    await place.dispose();
  }
});

await withBackend('docker', (address) => {
  const containers = new TestContainers(address);
  afterAll(() => containers.removeAll());

  test('killed before and after every command: in a container of busybox', { timeout: 300_000 }, () => {
    const open: (() => Promise<void>)[] = [];
    return killEverywhere({
      async create() {
        const host = await createContainerHost(address, containers, {
          image: 'busybox',
          owner: { uid: 1000, gid: 1000 },
          disk: 'shared',
        });
        const console = await ContainerConsole.open(containers.docker, host.container);
        open.push(async () => {
          console.close();
          await host.dispose();
        });
        const shell = (script: string): Promise<string> => console.run(script);
        const paths = { real: '/bin', dir: '/doomed', interpreter: '/bin/sh' };
        const killSwitch = await KillSwitch.install({ shell, tools: SHIMMED, appletsWin: true, ...paths });
        return KillRig.create({ host, killSwitch, shell });
      },
      async dispose() {
        await Promise.all(open.map((close) => close()));
      },
    });
  });
});
