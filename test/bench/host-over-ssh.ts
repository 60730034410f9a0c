import { PooledSshHosts } from '../../src/adapters/ssh/pooled-ssh-hosts.ts';
import { SshTargetProvider } from '../../src/adapters/ssh/ssh-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { AllowedHosts } from '../../src/domain/access.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { SshMachine } from '../support/machine/ssh-machine.ts';
import { MemoryControllerState } from '../support/memory-state.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { interleave, median, PAIRS, timed } from './measure.ts';
import { OpenSsh } from './openssh.ts';
import { writeLargePlugins, writePlugins } from './plugins.ts';
import { timesAsLong, timesFaster, type Row } from './table.ts';
import { openWorkshop, type BenchWorkshop } from './workshop.ts';

/** Ansible takes many seconds for each. */
const PLAYS = 3;
const IN_A_ROW = 20;
const UBUNTU = { uid: 1000, gid: 1000 };

/** A host whose plugins belong to the user who logs in: as little as possible stands between the two that are compared. */
export async function benchHostOverSsh(postgres: string): Promise<readonly Row[]> {
  return [
    ...(await deepLook(postgres)),
    ...(await firstConverge(postgres, '50 small files', 3, writePlugins)),
    ...(await firstConverge(postgres, '20 MB', 1.5, writeLargePlugins)),
  ];
}

async function deepLook(postgres: string): Promise<readonly Row[]> {
  const bench = await Bench.open(postgres, writePlugins);
  try {
    const { name, client } = await bench.host();
    await bench.workshop.pass(name);
    await bench.workshop.pass(name);
    const looks: number[] = [];
    const ours = async (): Promise<number> => {
      const whole: number[] = [];
      for (let count = 0; count < IN_A_ROW; count++) {
        const { wholeMs, phases, looks: looked } = await bench.workshop.pass(name);
        if (looked !== 1) throw new Error(`a pass looked ${looked} times`);
        whole.push(wholeMs);
        looks.push(phases.get('observe') ?? Number.NaN);
      }
      return median(whole);
    };
    const against = (): Promise<number> => timed(() => client.ansible(bench.workshop.registry));
    const pairs = await interleave({ ours, against }, { warmUp: 1, measured: PLAYS });
    const subject = (what: string) => ({ what, tier: 'deep', againstWhat: 'ansible-playbook' }) as const;
    return [
      timesFaster(
        subject(`over SSH: look at 10 plugins, 50 files hashed (p50 of ${IN_A_ROW}): the whole pass`),
        pairs,
        50,
      ),
      timesFaster(subject('  its one exec'), {
        ...pairs,
        ours: pairs.against.map(() => median(looks.slice(IN_A_ROW))),
      }),
    ];
  } finally {
    await bench.close();
  }
}

async function firstConverge(
  postgres: string,
  what: string,
  atMost: number,
  plugins: (registry: string) => Promise<void>,
): Promise<readonly Row[]> {
  const bench = await Bench.open(postgres, plugins);
  const applies: number[] = [];
  try {
    let next = await bench.host();
    const pairs = await interleave({
      async ours() {
        const { wholeMs, phases } = await bench.workshop.pass(next.name);
        applies.push(phases.get('converge') ?? Number.NaN);
        return wholeMs;
      },
      async against() {
        const { client } = next;
        const tookMs = await timed(() => client.tar(bench.workshop.registry, '/theirs'));
        await bench.leave();
        next = await bench.host();
        return tookMs;
      },
    });
    const subject = (of: string) => ({ what: of, tier: 'deep', againstWhat: 'tar | ssh tar -x' }) as const;
    return [
      timesAsLong(subject(`over SSH: first converge, 10 plugins, ${what}: the whole pass`), pairs, atMost),
      timesAsLong(subject('  its apply'), { ...pairs, ours: applies.slice(-PAIRS) }),
    ];
  } finally {
    await bench.close();
  }
}

interface BenchHost {
  /** Of its workspace, which is declared. */
  readonly name: string;
  readonly client: OpenSsh;
}

/** One host after the other, each with both connections warm. */
class Bench {
  readonly workshop: BenchWorkshop;
  readonly #hosts: PooledSshHosts;
  readonly #provider: SshTargetProvider;
  readonly #allowed: AllowedHosts[];
  #machine: SshMachine | undefined;
  #client: OpenSsh | undefined;
  #booted = 0;

  private constructor(
    workshop: BenchWorkshop,
    parts: { hosts: PooledSshHosts; provider: SshTargetProvider; allowed: AllowedHosts[] },
  ) {
    this.workshop = workshop;
    this.#hosts = parts.hosts;
    this.#provider = parts.provider;
    this.#allowed = parts.allowed;
  }

  static async open(postgres: string, plugins: (registry: string) => Promise<void>): Promise<Bench> {
    const state = new MemoryControllerState();
    const hosts = new PooledSshHosts({ state: () => state, clock: new SystemClock() });
    const allowed: AllowedHosts[] = [];
    const provider = new SshTargetProvider({ allowed, profiles: BUILT_IN_PROFILES, hosts });
    const workshop = await openWorkshop({ postgres, docker: provider, tier: 'deep', plugins });
    return new Bench(workshop, { hosts, provider, allowed });
  }

  async host(): Promise<BenchHost> {
    const machine = await SshMachine.boot();
    this.#machine = machine;
    await machine.machine.shell('mkdir /configs /theirs && chown ubuntu:ubuntu /configs /theirs');
    const { clientKeyFile: keyFile, knownHostsFile } = machine;
    this.#allowed[0] = { hosts: ['127.0.0.1'], user: 'ubuntu', keyFile, knownHostsFile, firstContact: 'strict' };
    const name = `host-${this.#booted++}`;
    const at = { ssh: { host: '127.0.0.1', port: machine.port } };
    await this.workshop.declareAt(name, at);
    const target = await this.#provider.locate(workspaceAt(at), AbortSignal.timeout(30_000));
    for (const as of ['observer', UBUNTU] as const)
      await target.run(['true'], { as, deadlineMs: 30_000, signal: AbortSignal.timeout(30_000) });
    const client = await OpenSsh.to(machine);
    this.#client = client;
    return { name, client };
  }

  async leave(): Promise<void> {
    await this.#client?.close();
    await this.#machine?.close();
    this.#client = undefined;
    this.#machine = undefined;
  }

  async close(): Promise<void> {
    await this.leave();
    await this.workshop.close();
    await this.#hosts.close();
  }
}
