import { randomInt } from 'node:crypto';
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { classifyError } from '../../src/domain/errors.ts';
import type { Fence } from '../../src/domain/fence.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { API_VERSION, type WorkspaceManifest } from '../../src/domain/workspace.ts';
import type { RunResult, TargetProvider, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { createWorkshop, type PassPorts } from '../../src/workshop.ts';
import { seededRandom } from '../support/fake-clock.ts';
import type { MemoryStoreBackend } from '../support/memory-store.ts';
import { writePlugin } from '../support/plugset.ts';
import { createSmallWorld } from '../support/small-world.ts';

const PLUGINS = ['alpha', 'beta', 'gamma', 'delta'] as const;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 1,
  laneLimit: 1,
  probeIntervalMs: 1,
  deepIntervalMs: 0,
  resolveIntervalMs: 60_000,
  firstPassPerSecond: 1000,
  graceMs: 1000,
};
const STEPS = 25;

/**
 * Real trees, the real scripts, the real packer; the store is a fake that can fail, and the target's transport loses
 * connections. A seed is printed with every failure: PLUGSET_SIM_SEED runs it again.
 */
describe('random edits, drift, lost connections and changes of leader', () => {
  const seeds =
    process.env['PLUGSET_SIM_SEED'] === undefined
      ? Array.from({ length: 4 }, () => randomInt(2 ** 31))
      : [Number(process.env['PLUGSET_SIM_SEED'])];

  it.each(seeds)(
    'converge, and leave alone what is not ours (seed %i)',
    async (seed) => {
      const world = await World.create(seed);
      try {
        for (let step = 0; step < STEPS; step++) await world.step();
        await world.settle();
        await world.expectConverged();
      } finally {
        await world.close();
      }
    },
    60_000,
  );
});

interface Faults {
  /** Of the next command. */
  next: 'none' | 'lost-before' | 'lost-after';
}

class World {
  readonly #random: () => number;
  readonly #home: string;
  readonly #registry: string;
  readonly #backend: MemoryStoreBackend;
  readonly #faults: Faults;
  readonly #ports: PassPorts;
  readonly #close: () => Promise<void>;
  #workshop: ReturnType<typeof createWorkshop>;
  #fence: Fence = { authority: 'sim', epoch: 1, n: 1 };
  readonly #contents = new Map<string, number>(PLUGINS.map((name) => [name, 1]));
  #declared = new Set<string>();

  static async create(seed: number): Promise<World> {
    const small = await createSmallWorld();
    const { root, registry } = small.dirs;
    const faults: Faults = { next: 'none' };
    const ports = { ...small.ports, providers: small.ports.providers.map((provider) => losing(provider, faults)) };
    const world = new World(seed, { root, registry }, ports, small.backend, faults, () => small.close());
    await mkdir(join(root, 'alice/plugins/mine'), { recursive: true });
    await writeFile(join(root, 'alice/plugins/mine/notes.txt'), 'my own\n');
    for (const name of PLUGINS) await world.#publish(name);
    world.#declare();
    return world;
  }

  private constructor(
    seed: number,
    dirs: Readonly<Record<'root' | 'registry', string>>,
    ports: PassPorts,
    backend: MemoryStoreBackend,
    faults: Faults,
    close: () => Promise<void>,
  ) {
    this.#random = seededRandom(seed);
    this.#home = join(dirs.root, 'alice');
    this.#registry = dirs.registry;
    this.#backend = backend;
    this.#faults = faults;
    this.#ports = ports;
    this.#close = close;
    this.#workshop = createWorkshop(ports, LIMITS, () => undefined);
  }

  async step(): Promise<void> {
    const actions = [
      () => this.#toggle(),
      () => this.#bump(),
      () => this.#edit(),
      () => this.#wipe(),
      () => this.#forge(),
      () => this.#changeLeader(),
      async () => void (this.#faults.next = this.#random() < 0.5 ? 'lost-before' : 'lost-after'),
      async () => this.#backend.failNext(),
    ];
    await actions[this.#pick(actions.length)]?.();
    if (this.#random() < 0.7) await this.#pass();
  }

  /** Nothing goes wrong any more: a few passes have to be enough, and then there is nothing left to do. */
  async settle(): Promise<void> {
    this.#faults.next = 'none';
    await this.#pass();
    for (let pass = 0; pass < 4; pass++) await this.#pass();
    const before = await this.#changes();
    await this.#pass();
    expect(await this.#changes(), 'a settled workspace is changed again and again').toBe(before);
  }

  async expectConverged(): Promise<void> {
    const installed = (await readdir(join(this.#home, 'plugins'))).toSorted();
    expect(installed).toEqual([...this.#declared, 'mine'].toSorted());
    for (const name of this.#declared) {
      const text = await readFile(join(this.#home, 'plugins', name, 'SKILL.md'), 'utf8');
      expect(text).toBe(`${name} ${this.#contents.get(name)}\n`);
    }
    expect(await readFile(join(this.#home, 'plugins/mine/notes.txt'), 'utf8')).toBe('my own\n');
    for (const room of ['staging', 'trash', 'journal.d']) {
      // Where nothing was ever declared, nothing was ever written.
      expect(await readdir(join(this.#home, '.plugset', room)).catch(() => [])).toEqual([]);
    }
  }

  async close(): Promise<void> {
    this.#workshop.revisions.stop();
    await this.#close();
  }

  async #pass(): Promise<void> {
    try {
      await this.#workshop.reconciler.reconcile(KEY, this.#fence, new AbortController().signal);
    } catch (error) {
      expect(classifyError(error), 'only classified errors come out of a pass').toBe(error);
      expect(classifyError(error).reason).not.toBe('Internal');
    }
  }

  async #changes(): Promise<number> {
    const loaded = await this.#ports.store.get(KEY, new AbortController().signal);
    return loaded.kind === 'found' ? loaded.status.corrective + loaded.status.intentional : -1;
  }

  async #toggle(): Promise<void> {
    const name = this.#plugin();
    if (!this.#declared.delete(name)) this.#declared.add(name);
    this.#declare();
  }

  async #bump(): Promise<void> {
    const name = this.#plugin();
    this.#contents.set(name, (this.#contents.get(name) ?? 0) + 1);
    await this.#publish(name);
    // The registry is asked again by whoever starts; a moved source then shows at once.
    await this.#changeLeader();
  }

  async #edit(): Promise<void> {
    await appendFile(join(this.#home, 'plugins', this.#plugin(), 'SKILL.md'), 'edited\n').catch(() => undefined);
  }

  async #wipe(): Promise<void> {
    await rm(join(this.#home, 'plugins', this.#plugin()), { recursive: true, force: true });
  }

  async #forge(): Promise<void> {
    const name = this.#plugin();
    await writeFile(join(this.#home, 'plugins', name, 'SKILL.md'), 'forged\n').catch(() => undefined);
    await appendFile(join(this.#home, '.plugset/receipts', name), ' ').catch(() => undefined);
  }

  async #changeLeader(): Promise<void> {
    this.#fence = { ...this.#fence, n: this.#fence.n + 1 };
    this.#workshop.revisions.stop();
    this.#workshop = createWorkshop(this.#ports, LIMITS, () => undefined);
  }

  #declare(): void {
    const manifest: WorkspaceManifest = {
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: this.#home } },
        plugins: [...this.#declared].map((name) => ({ name, source: name })),
      },
    };
    this.#backend.declare(manifest);
  }

  async #publish(name: string): Promise<void> {
    await writePlugin(join(this.#registry, name), {
      'SKILL.md': `${name} ${this.#contents.get(name)}\n`,
      'bin/run': '#!/bin/sh\n',
    });
  }

  #plugin(): string {
    return PLUGINS[this.#pick(PLUGINS.length)] ?? 'alpha';
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }
}

const KEY = workspaceKey('default', 'alice');

/** A transport that loses the connection before the command ran, or after: the caller cannot tell which. */
function losing(provider: TargetProvider, faults: Faults): TargetProvider {
  const wrap = (target: WorkspaceTarget): WorkspaceTarget => ({
    identity: target.identity,
    description: target.description,
    probe: (configDir, signal) => target.probe(configDir, signal),
    run: async (argv, options): Promise<RunResult> => {
      const fault = faults.next;
      faults.next = 'none';
      const lost: RunResult = { kind: 'unknown', message: 'the connection broke, says the test', cause: undefined };
      if (fault === 'lost-before') return lost;
      const result = await target.run(argv, options);
      return fault === 'lost-after' ? lost : result;
    },
  });
  return {
    kind: provider.kind,
    addresses: (workspace) => provider.addresses(workspace),
    lane: (workspace) => provider.lane(workspace),
    locate: async (workspace, signal) => wrap(await provider.locate(workspace, signal)),
    close: () => provider.close(),
  };
}
