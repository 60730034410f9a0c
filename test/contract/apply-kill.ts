import { expect } from 'vitest';

import { sha256 } from '../../src/domain/digest.ts';
import type { Observation } from '../../src/domain/observation.ts';
import type { ReconcileError } from '../../src/domain/errors.ts';
import type { Operation } from '../../src/domain/transaction.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import type { ConvergeResult } from '../../src/ports/plugin-host.ts';
import { eventually } from '../support/eventually.ts';
import type { KillSwitch, Moment } from '../support/kill-switch.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { Bench, named, samplePlugin, type PluginHostBackend } from './plugin-host.ts';

/** What the transaction makes of what is there: two replaced, one new, one removed, one adopted; files as for a residue. */
const OLD = {
  a: samplePlugin('a', '1'),
  b: samplePlugin('b', '1'),
  d: samplePlugin('d', '1'),
  e: samplePlugin('e', '1'),
};
const NEW: Readonly<Record<string, Artifact>> = {
  a: samplePlugin('a', '2'),
  c: samplePlugin('c', '1'),
  d: memoryArtifact({ only: 'this' }),
  e: OLD.e,
};
const NAMES = ['a', 'b', 'c', 'd', 'e'] as const;
/** For a tree that resists and for a lock that is held: not called here. */
const SPARE = new Set(['chmod', 'sleep', 'mkfifo']);
const NOTES = 'what the agent wrote';
const NOTHING: Observation = { owner: { uid: 0, gid: 0 }, plugins: [], odd: [], journalPending: false };

export interface KillBackend {
  readonly host: PluginHostBackend;
  readonly killSwitch: KillSwitch;
  /** Runs a script as root, outside the config directory. */
  readonly shell: (script: string) => Promise<string>;
}

/** What lies on the disk, seen without plugset. */
interface Disk {
  /** By name: its version that stands there whole; what is on no list does not count. */
  readonly states: Readonly<Record<(typeof NAMES)[number], 'old' | 'new' | 'absent' | 'torn'>>;
  readonly memory: string;
  readonly kept: readonly string[];
  /** What the memory file held before, from both places where that is kept. */
  readonly saved: string;
  /** Entries of the config directory and of the rooms of plugset's that are empty at rest. */
  readonly entries: readonly string[];
  /** Commands that were started since the kill switch was armed. */
  readonly commands: number;
}

/** A config directory that can be set back, and applies to it that die. */
export class KillRig {
  readonly #backend: KillBackend;
  readonly #bench: Bench;
  readonly #doomed: Bench;
  readonly #seed: string;
  /** Nothing of plugset's is there at the start, and nobody has looked. */
  readonly #isBlank: boolean;
  #start: readonly Operation[] = [];

  private constructor(backend: KillBackend, isBlank: boolean) {
    const { host, killSwitch } = backend;
    this.#backend = backend;
    this.#isBlank = isBlank;
    this.#bench = new Bench(host);
    this.#doomed = new Bench({ ...host, target: killSwitch.doom(host.target) });
    this.#seed = `${host.configDir}-seed`;
  }

  /** One whose config directory has nothing of plugset's in it. */
  static async createBlank(backend: KillBackend): Promise<KillRig> {
    const rig = new KillRig(backend, true);
    const { configDir, owner } = backend.host;
    await backend.shell(`cd ${configDir}
      printf new >MEMORY.md; chown ${owner.uid}:${owner.gid} MEMORY.md; cp -a . ${rig.#seed}`);
    rig.#start = rig.#operations(NOTHING, 'new');
    return rig;
  }

  static async create(backend: KillBackend): Promise<KillRig> {
    const rig = new KillRig(backend, false);
    const { configDir, owner } = backend.host;
    await rig.#bench.install(OLD);
    await backend.shell(`cd ${configDir}
      rm .plugset/*/e; mkdir -p plugins/a/data plugins/a/__pycache__ && touch plugins/a/__pycache__/x
      printf '${NOTES}' >plugins/a/data/notes; printf old >MEMORY.md; mkdir copies; printf old >copies/one
      chown -R ${owner.uid}:${owner.gid} .
      cp -a . ${rig.#seed}`);
    rig.#start = rig.#operations(await rig.#look(), 'old');
    return rig;
  }

  /** How many commands a run has that nobody ends. Each of the tools is among them, or it was not stood before. */
  async countCommands(): Promise<number> {
    const { killSwitch, shell } = this.#backend;
    await this.#reset(0, 'before');
    const { failed, observation } = await this.#apply(this.#doomed, this.#start, this.#isBlank);
    expect(failed).toEqual(new Map());
    const disk = await this.#inspect();
    this.#expectConverged('not killed', observation, disk);
    if (this.#isBlank) return disk.commands;
    const called = new Set((await shell(killSwitch.names)).trim().split('\n'));
    const uncalled = killSwitch.tools.filter((tool) => !called.has(tool) && !SPARE.has(tool));
    expect(uncalled).toEqual([]);
    return disk.commands;
  }

  async killAndRecover(command: number, moment: Moment): Promise<void> {
    const where = `${moment} command ${command}`;
    await this.#reset(command, moment);
    const disk = await this.#killedApply(this.#start, where);
    expect(disk.commands, where).toBeGreaterThanOrEqual(command);
    await this.#recover(disk, where);
  }

  /** What is armed elsewhere ends it. */
  async dieAndRecover(where: string): Promise<void> {
    await this.#reset(0, 'before');
    await this.#recover(await this.#killedApply(this.#start, where), where);
  }

  /** The second kill may come too late: after the first there is less to do. */
  async killTwiceAndRecover(first: number, second: number): Promise<void> {
    const where = `command ${first}, then ${second}`;
    await this.#reset(first, 'after');
    const { memory } = await this.#killedApply(this.#start, where);
    const operations = this.#operations(await this.#look(), memory);
    await this.#backend.shell(this.#backend.killSwitch.arm(second, 'before'));
    const disk = await this.#killedApply(operations, where, second);
    await this.#recover(disk, where);
  }

  /** An apply that dies, at the latest possible command when it has fewer; then nothing is torn. */
  async #killedApply(operations: readonly Operation[], where: string, command = 0): Promise<Disk> {
    const error = await this.#apply(this.#doomed, operations, this.#isBlank).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const disk = await this.#inspect();
    if (disk.commands >= command) expect(error, where).toMatchObject({ reason: 'OutcomeUnknown', class: 'unknown' });
    const { states } = disk;
    expect(Object.values(states), where).not.toContain('torn');
    if (this.#isBlank) return disk;
    expect(Number(states.a === 'absent') + Number(states.d === 'absent'), `absent at once, ${where}`).toBeLessThan(2);
    expect(states.e, where).toBe('new');
    return disk;
  }

  /** What a controller does: looks, applies what is missing, and again when told that the world moved on. */
  async #recover({ memory, states }: Disk, where: string): Promise<void> {
    const seen = await this.#look();
    // A look must be able to tell "in the middle of it" from "gone".
    if (!this.#isBlank && (states.a === 'absent' || states.d === 'absent'))
      expect(seen.journalPending, where).toBe(true);
    const { observation } = await this.#applyUnlocked(this.#operations(seen, memory)).catch(async (error: unknown) => {
      expect(error, where).toMatchObject({ reason: 'TargetMoved' });
      const now = await this.#inspect();
      return this.#applyUnlocked(this.#operations(await this.#look(), now.memory));
    });
    this.#expectConverged(where, observation, await this.#inspect());
  }

  #expectConverged(where: string, observation: Observation, disk: Disk): void {
    expectConverged(where, observation, disk, this.#isBlank ? [] : [NOTES]);
    expect(disk.saved, where).toBe(this.#isBlank ? '' : 'oldold');
  }

  /** A child of the killed script holds its lock for as long as it lives, which a controller waits out. */
  async #applyUnlocked(operations: readonly Operation[]): Promise<ConvergeResult> {
    const done = await eventually(async () => {
      try {
        return { result: await this.#apply(this.#bench, operations) };
      } catch (error) {
        if ((error as ReconcileError).reason === 'LockHeld') throw error;
        return { error };
      }
    });
    if (done.result === undefined) throw done.error;
    return done.result;
  }

  /** The directory itself stays: it is the identity of the target. */
  async #reset(command: number, moment: Moment): Promise<void> {
    await this.#backend.shell(`cd ${this.#backend.host.configDir}
      rm -rf plugins .plugset MEMORY.md copies
      cp -a ${this.#seed}/. .
      ${this.#backend.killSwitch.arm(command, moment)}`);
  }

  #look(): Promise<Observation> {
    return this.#bench.look(Object.fromEntries(Object.entries(NEW).map(([name, { lists }]) => [name, lists])));
  }

  #apply(bench: Bench, operations: readonly Operation[], expectsBlank = false): Promise<ConvergeResult> {
    const request = bench.request(operations, Object.values(NEW));
    // The plan that failed is made again, with the same id.
    const transaction = { ...request.transaction, id: 'same-plan' };
    const whole = { ...request, transaction, expectsBlank };
    return bench.backend.host.converge(bench.place, whole, new AbortController().signal);
  }

  #operations(observation: Observation, memory: string): readonly Operation[] {
    const trees = NAMES.flatMap((name): readonly Operation[] => {
      const found = observation.plugins.find((plugin) => plugin.name === name);
      const expected =
        found?.present !== true
          ? ({ kind: 'absent' } as const)
          : found.filesSha256 === undefined
            ? ({ kind: 'unmanaged' } as const)
            : ({ kind: 'sha256', sha256: found.filesSha256 } as const);
      const wanted = NEW[name];
      if (wanted === undefined)
        return found === undefined ? [] : [{ kind: 'remove-tree', plugin: named(name), expect: expected }];
      if (found?.equalToDesired === true) return [this.#bench.adopt(name, wanted)];
      const isThere =
        found?.present === true &&
        found.listDigest === wanted.digest &&
        found.receipt !== undefined &&
        found.differing.length === 0;
      return isThere ? [] : [this.#bench.put(name, wanted, expected)];
    });
    expect(['old', 'new']).toContain(memory);
    if (memory === 'new') return trees;
    const expectation = { kind: 'sha256', sha256: sha256(memory).slice(7) } as const;
    const [content, path] = [Buffer.from('new'), 'MEMORY.md'];
    const backup = { path: `.plugset/backup/${path}`, from: path, sha256: expectation.sha256 };
    return [
      ...trees,
      { kind: 'copy-file', expect: { kind: 'absent' }, ...backup },
      { kind: 'save-file', path },
      { kind: 'remove-file', path: 'copies/one', expect: expectation },
      { kind: 'remove-directory', path: 'copies' },
      // Last, so that one that is new says that the others are done.
      { kind: 'put-file', path, expect: expectation, content, mode: 0o644 },
    ];
  }

  async #inspect(): Promise<Disk> {
    const printed = await this.#backend.shell(`cd ${this.#backend.host.configDir}
      [ ! -d plugins ] || find plugins -type f -exec sha256sum {} +
      echo --; [ ! -d plugins ] || find plugins -type f -perm -100
      echo --; [ ! -d plugins ] || find plugins -mindepth 1 -maxdepth 1
      echo --; cat MEMORY.md
      echo; echo --; [ ! -d .plugset/kept ] || find .plugset/kept -type f -exec cat {} \\;
      echo; echo --; cat .plugset/base/MEMORY.md .plugset/backup/MEMORY.md 2>/dev/null || true
      echo; echo --; ls -A; [ ! -d .plugset/journal.d ] || find .plugset/staging .plugset/trash .plugset/journal.d ! -type d
      echo --; ${this.#backend.killSwitch.report}`);
    const [sums, executables, trees, memory, kept, saved, entries, counted] = printed
      .split(/^--$/m)
      .map((part) => part.split('\n').filter((line) => line !== '')) as Parts;
    const bits = new Set(executables);
    const found = new Map(sums.map((line) => [line.slice(66), `${line.slice(0, 64)} ${bits.has(line.slice(66))}`]));
    const states = NAMES.map((name) => [name, trees.includes(`plugins/${name}`) ? versionOf(name, found) : 'absent']);
    return {
      states: Object.fromEntries(states) as Disk['states'],
      memory: memory.join('\n'),
      kept,
      saved: saved.join('\n'),
      entries,
      commands: counted.length,
    };
  }
}

type Parts = [string[], string[], string[], string[], string[], string[], string[], string[]];

function versionOf(name: (typeof NAMES)[number], found: ReadonlyMap<string, string>): 'old' | 'new' | 'torn' {
  const old = name in OLD ? OLD[name as keyof typeof OLD] : undefined;
  const next = NEW[name];
  const listed = new Set([...(old?.files ?? []), ...(next?.files ?? [])].map(({ path }) => `plugins/${name}/${path}`));
  const there = [...listed].filter((path) => found.has(path)).length;
  const is = (artifact: Artifact | undefined): boolean =>
    artifact?.files.length === there &&
    artifact.files.every(
      ({ executable, path, sha256: hex }) => found.get(`plugins/${name}/${path}`) === `${hex} ${executable}`,
    );
  return is(next) ? 'new' : is(old) ? 'old' : 'torn';
}

function expectConverged(where: string, observation: Observation, disk: Disk, kept: readonly string[]): void {
  expect(disk, where).toMatchObject({
    states: { a: 'new', b: 'absent', c: 'new', d: 'new', e: 'new' },
    memory: 'new',
    kept,
    entries: ['.plugset', 'MEMORY.md', 'plugins'],
  });
  expect(observation, where).toMatchObject({ journalPending: false, odd: [] });
  expect(
    observation.plugins.map((plugin) => [plugin.name, plugin.listDigest, plugin.receipt?.digest, plugin.differing]),
    where,
  ).toEqual(Object.entries(NEW).map(([name, artifact]) => [name, artifact.digest, artifact.digest, []]));
}
