import type { TestImage } from '../support/docker-images.ts';
import type { Backends } from './converged-workspace.ts';
import { interleave, PAIRS, timed } from './measure.ts';
import { tarThroughCli } from './raw-docker.ts';
import { timesAsLong, type Row } from './table.ts';
import { openWorkshop } from './workshop.ts';

/** A container that has nothing yet: from the first look to the look that closes the apply. */
export async function benchFirstConverge(backends: Backends): Promise<readonly Row[]> {
  return [...(await onImage(backends, 'debian')), ...(await onImage(backends, 'busybox'))];
}

async function onImage({ docker, postgres, containers }: Backends, image: TestImage): Promise<readonly Row[]> {
  const workshop = await openWorkshop({ docker, postgres, tier: 'deep' });
  let made = 0;
  const freshContainer = async () => {
    const name = `fresh-${made++}`;
    const container = await containers.create({ image, labels: { 'plugset.dev/workspace': `default/${name}` } });
    return { name, container, containerName: (await container.inspect()).Name.slice(1) };
  };
  const [whole, apply]: [number[], number[]] = [[], []];
  try {
    const pairs = await interleave({
      async ours() {
        const { name, container, containerName } = await freshContainer();
        await workshop.declare(name, containerName);
        const { wholeMs, phases } = await workshop.pass(name);
        await container.remove({ force: true, v: true });
        whole.push(wholeMs);
        const [looked, applied] = [phases.get('observe') ?? Number.NaN, phases.get('converge') ?? Number.NaN];
        apply.push(applied);
        return looked + applied;
      },
      async against() {
        const { container, containerName } = await freshContainer();
        const tookMs = await timed(() => tarThroughCli(docker, workshop.registry, containerName, '/configs'));
        await container.remove({ force: true, v: true });
        return tookMs;
      },
    });
    const againstWhat = 'tar | docker exec tar -x';
    const row = (what: string, ours: readonly number[], atMost?: number): Row =>
      timesAsLong({ what, tier: 'deep', againstWhat }, { ours: ours.slice(-PAIRS), against: pairs.against }, atMost);
    return [
      row(`first converge, 10 plugins, 50 files, ${image}: look exec + apply exec`, pairs.ours, 1.7),
      row('  the apply exec alone, which ends with a look', apply),
      row('  the whole pass, from the row in Postgres to the status', whole),
    ];
  } finally {
    await workshop.close();
  }
}
