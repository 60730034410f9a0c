import type Docker from 'dockerode';

import type { TestImage } from '../support/docker-images.ts';
import type { Backends } from './converged-workspace.ts';
import { interleave, PAIRS, timed } from './measure.ts';
import { bareExec, tarThroughCli } from './raw-docker.ts';
import { timesAsLong, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

/** What a container has been made to, by its number, before it is declared, and how many looks that costs. */
interface Start {
  readonly what: string;
  readonly prepare?: (container: Docker.Container, round: number) => Promise<void>;
  readonly looks: 0 | 1;
}

const NEW: Start = { what: 'new', looks: 0 };

/** Where the first run does not find what it presumed, or nothing was to be presumed. */
const OTHERWISE: readonly Start[] = [
  {
    what: 'of another owner than the last: refused, look, apply',
    looks: 1,
    prepare: (container, round) => bareExec(container, ['chown', `${1000 + (round % 2)}`, '/configs'], true),
  },
  {
    what: 'not new, so not presumed to be: look, apply',
    looks: 1,
    prepare: (container) => bareExec(container, ['mkdir', '/configs/plugins'], true),
  },
];

/** A container that has no plugins yet: the whole pass, from the row in Postgres to the status that it writes. */
export async function benchFirstConverge(backends: Backends): Promise<readonly Row[]> {
  const rows = [...(await startedAs(backends, 'debian', NEW)), ...(await startedAs(backends, 'busybox', NEW))];
  for (const start of OTHERWISE) rows.push(...(await startedAs(backends, 'debian', start)));
  return rows;
}

async function startedAs(backends: Backends, image: TestImage, start: Start): Promise<readonly Row[]> {
  const { docker, postgres, containers } = backends;
  const workshop = await openWorkshop({ docker, postgres, tier: 'deep' });
  let made = 0;
  const freshContainer = async () => {
    const name = `fresh-${made++}`;
    const container = await containers.create({ image, labels: { 'plugset.dev/workspace': `default/${name}` } });
    return { name, container, containerName: (await container.inspect()).Name.slice(1) };
  };
  const runs: number[] = [];
  let round = 0;
  try {
    const pairs = await interleave({
      async ours() {
        const { name, container, containerName } = await freshContainer();
        await start.prepare?.(container, round++);
        await workshop.declare(name, containerName);
        const { wholeMs, phases, looks } = await workshop.pass(name);
        await container.remove({ force: true, v: true });
        if (looks !== start.looks) throw new Error(`${looks} looks before the apply, where ${start.looks} were meant`);
        runs.push(phases.get('converge') ?? Number.NaN);
        return wholeMs;
      },
      async against() {
        const { container, containerName } = await freshContainer();
        const tookMs = await timed(() => tarThroughCli(docker, workshop.registry, containerName, '/configs'));
        await container.remove({ force: true, v: true });
        return tookMs;
      },
    });
    const againstWhat = 'tar | docker exec tar -x';
    const subject = (what: string) => ({ what, tier: 'deep', againstWhat }) as const;
    if (start !== NEW) return [timesAsLong(subject(`  ${start.what}`), pairs)];
    return [
      timesAsLong(subject(`first converge, 10 plugins, 50 files, ${image}: the whole pass`), pairs, 1.7),
      timesAsLong(subject('  its one exec: check, apply, look'), { ...pairs, ours: runs.slice(-PAIRS) }),
    ];
  } finally {
    await workshop.close();
  }
}
