import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { TUNNEL_WAIT_BUCKETS } from '../../src/adapters/telemetry/buckets.ts';
import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { writePlugin } from '../support/plugset.ts';
import { startDaemonProcess, until, type DaemonProcess } from './daemon-process.ts';
import { load, median } from './measure.ts';
import { PLUGIN_NAMES, writePlugins } from './plugins.ts';
import type { Row } from './table.ts';

/** As many as are wanted, unless somebody has less time. */
const INSTANCES = Number(process.env['PLUGSET_BENCH_INSTANCES'] ?? 200);
const BOOTED_AT_ONCE = 4;
const PATIENCE_MS = 600_000;
/** AWS's quota for an endpoint, which the stand-in refuses to go beyond. */
const QUOTA = 20;
/** More of them want a tunnel at once than there are. */
const CROWDED: DaemonSettings = { tunnels: QUOTA, args: ['--workers', '64', '--per-engine', '64'] };
/** First looks are not what is measured. */
const SOON = ['--first-pass-rate', '100000', '--deep-interval', '12h'];
const [EDITED = '', EDITION] = [PLUGIN_NAMES[0], 'plugin-0-next'];

/**
 * The built daemon, and instances that are machines with an sshd, a disk, host keys and a console of their own. All of them
 * and the stand-in for AWS share the processors with it, so how long it takes says little; who waits for whom says more.
 */
export async function benchFleetOfInstances(postgres: string): Promise<readonly Row[]> {
  const fleet = await InstanceFleet.launch(postgres);
  try {
    const first = await fleet.converge({}, () => fleet.declare());
    const edit = await fleet.converge(CROWDED, () => fleet.edit());
    return [
      ...rowsOf(`${INSTANCES} instances behind one endpoint of ${QUOTA}: first converge`, first),
      ...rowsOf(`the same, 64 at once for ${QUOTA} tunnels: an edit of all`, edit, 3),
    ];
  } finally {
    await fleet.close();
  }
}

const LEADS = 'leader_election_master_status{name="plugset"}';
const LOOKED = 'plugset_looks_total{tier="deep",outcome="looked"}';

interface DaemonSettings {
  readonly tunnels?: number;
  readonly args?: readonly string[];
}

/** What became of all instances, and of those who wanted a tunnel meanwhile. */
interface Convergence {
  /** Of each that converged, milliseconds since the declaration. */
  readonly converged: readonly number[];
  readonly peak: number;
  /** Openings that AWS refused because there were too many. */
  readonly refused: number;
  readonly waits: { readonly count: number; readonly meanMs: number; readonly longestMs: number };
  readonly load: string;
}

function rowsOf(what: string, convergence: Convergence, timesMean?: number): readonly Row[] {
  const { converged, peak, refused, waits } = convergence;
  const ratio = waits.longestMs / waits.meanMs;
  const wanted = { text: `<= ${timesMean} x`, isMet: ratio <= (timesMean ?? Infinity) };
  return [
    {
      what,
      tier: '-',
      ours: `${seconds(median(converged))} of ${seconds(Math.max(...converged))}`,
      against: '',
      figure: `${converged.length} converged; ${peak} tunnels at most, ${refused} refused; ${convergence.load}`,
      wanted: { text: `all, <= ${QUOTA} tunnels`, isMet: converged.length === INSTANCES && peak <= QUOTA },
    },
    {
      what: `  longest of ${waits.count} waits for a tunnel`,
      tier: '-',
      // From a histogram, so it was no longer than that.
      ours: `<= ${seconds(waits.longestMs)}`,
      against: `${seconds(waits.meanMs)} on average`,
      figure: timesMean === undefined ? '' : `<= ${ratio.toFixed(1)} x`,
      ...(timesMean === undefined ? {} : { wanted }),
    },
  ];
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 0)} s`;
}

class InstanceFleet {
  readonly #aws: FakeAws;
  readonly #database: FreshDatabase;
  readonly #base: string;

  private constructor(aws: FakeAws, database: FreshDatabase, base: string) {
    this.#aws = aws;
    this.#database = database;
    this.#base = base;
  }

  static async launch(postgres: string): Promise<InstanceFleet> {
    const base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-instances-')));
    const [aws, database] = await Promise.all([FakeAws.start(), freshDatabase(postgres)]);
    const fleet = new InstanceFleet(aws, database, base);
    const registry = join(base, 'registry');
    await writePlugins(registry);
    await writePlugin(join(registry, EDITION), { 'SKILL.md': '# Another edition\n' });
    const names = Array.from({ length: INSTANCES }, (_, index) => `default/fleet-${index + 1}`);
    await mapAtOnce(BOOTED_AT_ONCE, names, async (name) =>
      aws.launch({ tags: { 'plugset.dev/workspace': name }, directories: { '/configs': 1000 } }),
    );
    return fleet;
  }

  async declare(): Promise<void> {
    const { sql } = this.#database;
    await sql('begin');
    await sql(
      `insert into plugset.workspaces (name, runtime, target)
       select 'fleet-' || n, 'claude-code', '{"ec2": {}}' from generate_series(1, $1::int) n`,
      [INSTANCES],
    );
    await sql(
      `insert into plugset.plugins (workspace, name, source)
       select 'fleet-' || n, plugin, plugin from generate_series(1, $1::int) n, unnest($2::text[]) plugin`,
      [INSTANCES, PLUGIN_NAMES],
    );
    await sql('commit');
  }

  async edit(): Promise<void> {
    await this.#database.sql('update plugset.plugins set source = $1 where name = $2', [EDITION, EDITED]);
  }

  /** Starts a daemon with these settings, and waits until all are as they are declared then. */
  async converge(settings: DaemonSettings, declare: () => Promise<void>): Promise<Convergence> {
    const [endpoint] = this.#aws.endpoints;
    if (endpoint === undefined) throw new Error('there is no endpoint');
    const daemon = await this.#start(settings);
    try {
      const before = await waitsOf(daemon);
      const refusedBefore = this.#refused;
      const declaredAt = await this.#now();
      await declare();
      const converged = await this.#converged(declaredAt);
      return {
        converged,
        peak: this.#aws.tunnels.peakAt(endpoint),
        refused: this.#refused - refusedBefore,
        waits: between(before, await waitsOf(daemon)),
        load: load(),
      };
    } finally {
      await daemon.stop();
    }
  }

  async close(): Promise<void> {
    await this.#aws.close();
    await this.#database.drop();
    await rm(this.#base, { recursive: true, force: true, maxRetries: 3 });
  }

  get #refused(): number {
    return this.#aws.count('OpenTunnel') - this.#aws.tunnels.opened;
  }

  /** One that has looked at everything that is declared. */
  async #start({ tunnels, args = [] }: DaemonSettings): Promise<DaemonProcess> {
    const dir = (name: string): string => join(this.#base, name);
    const ec2 = {
      regions: [{ name: this.#aws.region }],
      ...(tunnels === undefined ? {} : { tunnelsPerEndpoint: tunnels }),
    };
    const config = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Configuration', targets: { ec2 } };
    await writeFile(dir('plugset.yaml'), JSON.stringify(config));
    const places = ['--config', dir('plugset.yaml'), '--registry', dir('registry'), '--cache-dir', dir('cache')];
    const daemon = await startDaemonProcess({
      database: this.#database.url,
      directory: this.#base,
      args: [...places, ...SOON, ...args],
      environment: this.#aws.environment,
    });
    const [declared] = await this.#database.sql<{ count: number }>('select count(*)::int from plugset.workspaces');
    await until('the daemon leads', async () => (await daemon.sample(LEADS)) === 1, PATIENCE_MS);
    const isLooked = async (): Promise<boolean> => (await daemon.sample(LOOKED)) >= (declared?.count ?? 0);
    await until('all were looked at', isLooked, PATIENCE_MS);
    return daemon;
  }

  async #now(): Promise<Date> {
    const [row] = await this.#database.sql<{ at: Date }>('select clock_timestamp() at');
    return row?.at ?? new Date();
  }

  /** Milliseconds from then to the status of each that is Ready for what was declared; fewer than all when it takes too long. */
  async #converged(since: Date): Promise<readonly number[]> {
    const ready = async (): Promise<readonly number[]> => {
      const rows = await this.#database.sql<{ ms: number }>(
        `select extract(epoch from s.updated_at - $1)::float8 * 1000 ms
           from plugset.workspaces w join plugset.workspace_status s using (namespace, name)
          where s.updated_at > $1 and (s.status ->> 'observedGeneration')::int = w.generation
            and s.status -> 'conditions' @> '[{"type": "Ready", "status": "True"}]'`,
        [since],
      );
      return rows.map(({ ms }) => ms);
    };
    // How many have is a figure, and no failure.
    await until('all have converged', async () => (await ready()).length === INSTANCES, PATIENCE_MS).catch(
      () => undefined,
    );
    return ready();
  }
}

interface Waits {
  readonly count: number;
  readonly seconds: number;
  /** How many were no longer than each of {@link TUNNEL_WAIT_BUCKETS}. */
  readonly within: readonly number[];
}

async function waitsOf(daemon: DaemonProcess): Promise<Waits> {
  const sample = (suffix: string): Promise<number> => daemon.sample(`plugset_tunnel_wait_seconds_${suffix}`);
  return {
    count: await sample('count'),
    seconds: await sample('sum'),
    within: await Promise.all(TUNNEL_WAIT_BUCKETS.map((bound) => sample(`bucket{le="${bound}"}`))),
  };
}

function between(before: Waits, after: Waits): Convergence['waits'] {
  const count = after.count - before.count;
  // More may have come since they were counted.
  const bucket = after.within.findIndex((within, index) => within - (before.within[index] ?? 0) >= count);
  return {
    count,
    meanMs: ((after.seconds - before.seconds) * 1000) / count,
    longestMs: (TUNNEL_WAIT_BUCKETS[bucket] ?? Infinity) * 1000,
  };
}
