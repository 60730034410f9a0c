import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type Docker from 'dockerode';

import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import type { Backends } from './converged-workspace.ts';
import { timed } from './measure.ts';
import { PLUGIN_NAMES } from './plugins.ts';
import { alone, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

/** As many as are wanted, unless somebody has less time: Ansible takes some for each. */
const CONTAINERS = Number(process.env['PLUGSET_BENCH_CONTAINERS'] ?? 10);
const AT_ONCE = 6;
const SCRIPT = fileURLToPath(new URL('peers/ansible.sh', import.meta.url));

export function hasAnsible(): boolean {
  return spawnSync('ansible-playbook', ['--version']).status === 0;
}

/** Ten containers, against the playbook below `peers/` over the same ten, each with a Python lent by this machine. */
export async function benchFleetOfContainers({ docker, postgres, containers }: Backends): Promise<readonly Row[]> {
  const workshop = await openWorkshop({ docker, postgres, tier: 'probe' });
  const fleet = (what: string): Promise<readonly Docker.Container[]> =>
    Promise.all(
      Array.from({ length: CONTAINERS }, (_, index) =>
        containers.create({
          image: 'debian',
          labels: { 'plugset.dev/workspace': `default/${what}-${index}` },
          host: { Binds: ['/usr:/usr:ro'] },
        }),
      ),
    );
  try {
    const ours = await fleet('ours');
    for (const [index, container] of ours.entries())
      await workshop.declare(`ours-${index}`, (await container.inspect()).Name.slice(1));
    const passes = (): Promise<number> =>
      timed(() => mapAtOnce(AT_ONCE, [...ours.keys()], (index) => workshop.pass(`ours-${index}`)));
    const firstMs = await passes();
    // The look that the passes after it take for granted.
    await passes();
    const restMs = await passes();
    const names = (await Promise.all((await fleet('theirs')).map((one) => one.inspect()))).map(({ Name }) =>
      Name.slice(1),
    );
    const play = (): Promise<number> => timed(() => ansible(docker, workshop.registry, names));
    const [playedMs, replayedMs] = [await play(), await play()];
    return [compared('first converge', firstMs, playedMs, 8), compared('nothing to do', restMs, replayedMs, 200)];
  } finally {
    await workshop.close();
  }
}

function compared(what: string, oursMs: number, theirsMs: number, wanted: number): Row {
  const times = theirsMs / oursMs;
  return {
    ...alone(`${CONTAINERS} containers x ${PLUGIN_NAMES.length} plugins, ${what}`, oursMs, `1/${times.toFixed(0)}`),
    tier: 'probe',
    against: `${(theirsMs / 1000).toFixed(1)} s ansible-playbook`,
    wanted: { text: `<= 1/${wanted}`, isMet: times >= wanted },
  };
}

async function ansible(engine: string, registry: string, containers: readonly string[]): Promise<void> {
  const child = spawn(SCRIPT, [registry, JSON.stringify(PLUGIN_NAMES), ...containers], {
    env: { PATH: process.env['PATH'], DOCKER_HOST: engine, HOME: '/tmp', LANG: 'C.UTF-8' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`ansible-playbook ended with ${code}: ${said.slice(-2000)}`);
}
