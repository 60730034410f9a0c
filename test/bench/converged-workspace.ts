import type { TestContainers } from '../support/docker-containers.ts';
import { interleave, median, timed } from './measure.ts';
import { PLUGIN_NAMES } from './plugins.ts';
import { bareExec, lookOneByOne } from './raw-docker.ts';
import { timesAsLong, timesFaster, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

export interface Backends {
  readonly docker: string;
  readonly postgres: string;
  readonly containers: TestContainers;
}

const IN_A_ROW = 10;

/** Passes that find everything as declared: what a fleet at rest costs. */
export async function benchConvergedWorkspace(backends: Backends): Promise<readonly Row[]> {
  return [...(await probeTier(backends)), ...(await deepTier(backends))];
}

async function probeTier(backends: Backends): Promise<readonly Row[]> {
  const { workshop, container, pass } = await convergedWorkspace(backends, 'probe');
  try {
    // A fleet at rest is one such pass after the other, in code that has long been compiled.
    for (let count = 0; count < 100; count++) await pass();
    const ours = async (): Promise<number> => {
      const tookMs: number[] = [];
      for (let count = 0; count < IN_A_ROW; count++) tookMs.push((await pass()).wholeMs);
      return median(tookMs);
    };
    const replaced = () => timed(() => lookOneByOne(container, '/configs', PLUGIN_NAMES));
    const pairs = await interleave({ ours, against: replaced });
    return [
      timesFaster(
        {
          what: `pass, nothing moved, 10 plugins (p50 of ${IN_A_ROW} in a row)`,
          tier: 'probe',
          againstWhat: '1 ls + 10 cat execs',
        },
        pairs,
        100,
      ),
    ];
  } finally {
    await workshop.close();
  }
}

async function deepTier(backends: Backends): Promise<readonly Row[]> {
  const { workshop, container, pass } = await convergedWorkspace(backends, 'deep');
  try {
    const whole: number[] = [];
    const look = async (): Promise<number> => {
      const { wholeMs, phases } = await pass();
      whole.push(wholeMs);
      return phases.get('observe') ?? Number.NaN;
    };
    const bare = () => timed(() => bareExec(container, ['true'], true));
    const pairs = await interleave({ ours: look, against: bare });
    const againstWhat = 'exec of true';
    return [
      timesAsLong({ what: 'deep look, 10 plugins, 50 files hashed', tier: 'deep', againstWhat }, pairs, 2),
      timesAsLong(
        { what: 'the whole pass around that look', tier: 'deep', againstWhat },
        { ...pairs, ours: whole.slice(-pairs.ours.length) },
      ),
    ];
  } finally {
    await workshop.close();
  }
}

async function convergedWorkspace({ docker, postgres, containers }: Backends, tier: 'probe' | 'deep') {
  const workshop = await openWorkshop({ docker, postgres, tier });
  const name = `alice-${tier}`;
  const container = await containers.create({
    image: 'debian',
    labels: { 'plugset.dev/workspace': `default/${name}` },
  });
  const { Name } = await container.inspect();
  await workshop.declare(name, Name.slice(1));
  const pass = async () => {
    const times = await workshop.pass(name);
    if (times.looks !== (tier === 'deep' ? 1 : 0))
      throw new Error(`a pass of tier ${tier} looked ${times.looks} times`);
    return times;
  };
  // The first converges, the second takes the look that the third may take for granted.
  await workshop.pass(name);
  await workshop.pass(name);
  return { workshop, container, pass };
}
