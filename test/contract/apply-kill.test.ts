import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { cp, lstat, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { DirectoryWorkspaceTarget } from '../../src/adapters/directory/directory-workspace-target.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { sha256 } from '../../src/domain/digest.ts';
import type { Observation } from '../../src/domain/observation.ts';
import type { Operation } from '../../src/domain/transaction.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import { busyboxTools, createDirectoryHost, type Programs } from '../support/directory-host.ts';
import { KillSwitch, type Moment } from '../support/kill-switch.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { Bench, named, samplePlugin } from './plugin-host.ts';

/*
 * The promise of the apply: killed at any point, every tree is the old one or the new one, and whoever comes next ends
 * it. A shim before every program on the PATH kills the whole process group before or after each of them in turn.
 * Not on busybox's own shell, which runs its applets without the PATH; its tools are here under dash.
 */

/** What the transaction makes of what is there: two replaced, one new, one removed, one adopted, one file. */
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
const NOTES = 'what the agent wrote\n';

const FLAVOURS: readonly { name: string; programs: Programs; every: number }[] = [
  { name: 'GNU tools', programs: { sh: '/bin/dash' }, every: 1 },
  { name: 'GNU tools without flock', programs: { sh: '/bin/dash', flock: undefined }, every: 6 },
  { name: 'busybox tools', programs: { ...busyboxTools(), sh: '/bin/dash' }, every: 6 },
];

for (const { name, programs, every } of FLAVOURS) {
  const isMissing = Object.values(programs).some((program) => program !== undefined && !existsSync(program));
  test.skipIf(isMissing && process.env['CI'] !== 'true')(
    `killed before and after every command: ${name}`,
    { timeout: 300_000 },
    async () => {
      const rig = await Rig.create(programs);
      try {
        const commands = await rig.countCommands();
        expect(commands).toBeGreaterThan(30);
        for (let command = 1; command <= commands; command += every) {
          for (const moment of ['before', 'after'] as const) await rig.killAndRecover(command, moment);
        }
      } finally {
        await rig.dispose();
      }
    },
  );
}

test('killed again while it recovers', { timeout: 300_000 }, async () => {
  const rig = await Rig.create({ sh: '/bin/dash' });
  try {
    const commands = await rig.countCommands();
    for (let first = 14; first <= commands - 8; first += 4) {
      for (let second = 8 + (first % 3); second <= commands; second += 9) {
        await rig.reset();
        await rig.killedApply(first, 'after');
        await rig.killedApply(second, 'before');
        await rig.recover(`command ${first}, then ${second}`);
      }
    }
  } finally {
    await rig.dispose();
  }
});

type Backend = Awaited<ReturnType<typeof createDirectoryHost>>;

/** A config directory that can be set back, a PATH that works and one that kills. */
class Rig {
  readonly #backend: Backend;
  readonly #bench: Bench;
  readonly #doomed: Bench;
  readonly #switch: KillSwitch;
  readonly #seed: string;

  private constructor(backend: Backend, bench: Bench, killSwitch: KillSwitch) {
    this.#backend = backend;
    this.#bench = bench;
    this.#switch = killSwitch;
    this.#seed = `${backend.configDir}-seed`;
    const target = new DirectoryWorkspaceTarget({
      path: backend.configDir,
      identity: backend.target.identity,
      searchPath: killSwitch.bin,
      clock: new SystemClock(),
    });
    this.#doomed = new Bench({ ...backend, target });
  }

  static async create(programs: Programs): Promise<Rig> {
    const backend = await createDirectoryHost({ programs, disk: 'shared' });
    const rig = new Rig(backend, new Bench(backend), await KillSwitch.install(backend.bin, `${backend.bin}-doomed`));
    await rig.#prepare();
    return rig;
  }

  async #prepare(): Promise<void> {
    await this.#bench.install(OLD);
    await this.#bench.shell(`
      rm .plugset/*/e; mkdir -p plugins/a/data plugins/a/__pycache__ && touch plugins/a/__pycache__/x
      printf '${NOTES.replace('\n', '\\n')}' >plugins/a/data/notes; printf old >MEMORY.md`);
    await cp(this.#backend.configDir, this.#seed, { recursive: true, preserveTimestamps: true });
    await this.#bench
      .shell(`chown -R ${this.#backend.owner.uid}:${this.#backend.owner.gid} ${this.#seed}`, 'root')
      .catch(() => undefined);
  }

  async reset(): Promise<void> {
    const { configDir, owner } = this.#backend;
    // The directory itself stays: it is the identity of the target.
    for (const entry of await readdir(configDir)) await rm(join(configDir, entry), { recursive: true });
    await this.#bench.shell(`cp -a ${this.#seed}/. .`, owner.uid === process.getuid?.() ? 'agent' : 'root');
  }

  async dispose(): Promise<void> {
    await this.#backend.dispose();
  }

  /** Of a run that nobody ends. */
  async countCommands(): Promise<number> {
    await this.#switch.arm(0, 'before');
    const { failed, observation } = await this.#converge(this.#doomed);
    expect(failed).toEqual(new Map());
    await this.#expectConverged('not killed', observation);
    return this.#switch.counted();
  }

  async killAndRecover(command: number, moment: Moment): Promise<void> {
    await this.reset();
    expect(await this.killedApply(command, moment)).toBe(true);
    await this.recover(`${moment} command ${command}`);
  }

  /**
   * An apply of what is to be done now, which dies. Then nothing is torn. `false`: after another one it had less to do,
   * and was through before its number came up.
   */
  async killedApply(command: number, moment: Moment): Promise<boolean> {
    await this.#switch.arm(command, moment);
    const where = `${moment} command ${command}`;
    const error = await this.#converge(this.#doomed).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    const died = (await this.#switch.counted()) >= command;
    if (died) expect(error, where).toMatchObject({ reason: 'OutcomeUnknown', class: 'unknown' });
    await this.#expectWhole(where);
    return died;
  }

  /** What a controller does: looks, applies what is missing, and again when told that the world moved on. */
  async recover(where: string): Promise<void> {
    const { observation } = await this.#converge(this.#bench).catch((error: unknown) => {
      expect(error, where).toMatchObject({ reason: 'TargetMoved' });
      return this.#converge(this.#bench);
    });
    await this.#expectConverged(where, observation);
  }

  async #converge(bench: Bench): ReturnType<Bench['converge']> {
    // Looked at in peace: it is the apply that dies.
    const observation = await this.#bench.look(
      Object.fromEntries(Object.entries(NEW).map(([name, artifact]) => [name, artifact.lists])),
    );
    const operations = [...this.#treeOperations(observation), ...(await this.#fileOperations())];
    const request = { ...bench.request(operations, Object.values(NEW)) };
    // The plan that failed is made again, with the same id.
    const transaction = { ...request.transaction, id: 'same-plan' };
    return bench.backend.host.converge(bench.place, { ...request, transaction }, new AbortController().signal);
  }

  #treeOperations(observation: Observation): readonly Operation[] {
    return NAMES.flatMap((name): readonly Operation[] => {
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
  }

  async #fileOperations(): Promise<readonly Operation[]> {
    const now = await readFile(join(this.#backend.configDir, 'MEMORY.md'), 'utf8');
    expect(['old', 'new']).toContain(now);
    if (now === 'new') return [];
    const expectation = { kind: 'sha256', sha256: sha256(now).slice(7) } as const;
    return [{ kind: 'put-file', path: 'MEMORY.md', expect: expectation, content: Buffer.from('new'), mode: 0o644 }];
  }

  async #states(): Promise<Readonly<Record<(typeof NAMES)[number], string>>> {
    const entries = NAMES.map(async (name) => {
      const old = name in OLD ? OLD[name as keyof typeof OLD] : undefined;
      return [name, await stateOf(join(this.#backend.configDir, 'plugins', name), old, NEW[name])] as const;
    });
    return Object.fromEntries(await Promise.all(entries)) as Record<(typeof NAMES)[number], string>;
  }

  async #expectWhole(where: string): Promise<void> {
    const states = await this.#states();
    expect(Object.values(states), where).not.toContain('torn');
    expect(Number(states.a === 'absent') + Number(states.d === 'absent'), `absent at once, ${where}`).toBeLessThan(2);
    expect(states.e, where).toBe('new');
    if (states.a !== 'absent' && states.d !== 'absent') return;
    // A look must be able to tell "in the middle of it" from "gone".
    expect((await this.#bench.look()).journalPending, where).toBe(true);
  }

  async #expectConverged(where: string, observation: Observation): Promise<void> {
    const { configDir } = this.#backend;
    expect(await this.#states(), where).toEqual({ a: 'new', b: 'absent', c: 'new', d: 'new', e: 'new' });
    expect(observation, where).toMatchObject({ journalPending: false, odd: [] });
    expect(
      observation.plugins.map((plugin) => [plugin.name, plugin.listDigest, plugin.receipt?.digest, plugin.differing]),
      where,
    ).toEqual(Object.entries(NEW).map(([name, artifact]) => [name, artifact.digest, artifact.digest, []]));
    for (const room of ['staging', 'trash', 'journal.d'])
      expect(await readdir(join(configDir, '.plugset', room)), `${room}, ${where}`).toEqual([]);
    expect(await readFile(join(configDir, 'MEMORY.md'), 'utf8'), where).toBe('new');
    expect((await readdir(configDir)).toSorted(), where).toEqual(['.plugset', 'MEMORY.md', 'plugins']);
    expect(await keptFiles(join(configDir, '.plugset', 'kept')), where).toEqual([NOTES]);
  }
}

/** Which version of a plugin stands there, whole; what is on no list does not count. */
async function stateOf(root: string, old: Artifact | undefined, next: Artifact | undefined): Promise<string> {
  if (!existsSync(root)) return 'absent';
  const paths = new Set([...(old?.files ?? []), ...(next?.files ?? [])].map((file) => file.path));
  const found = new Map<string, string>();
  for (const path of paths) {
    if (!existsSync(join(root, path))) continue;
    const { mode } = await lstat(join(root, path));
    found.set(
      path,
      `${createHash('sha256')
        .update(await readFile(join(root, path)))
        .digest('hex')} ${(mode & 0o100) !== 0}`,
    );
  }
  const is = (artifact: Artifact | undefined): boolean =>
    artifact?.files.length === found.size &&
    artifact.files.every((file) => found.get(file.path) === `${file.sha256} ${file.executable}`);
  return is(next) ? 'new' : is(old) ? 'old' : 'torn';
}

async function keptFiles(kept: string): Promise<readonly string[]> {
  const entries = await readdir(kept, { recursive: true, withFileTypes: true });
  return Promise.all(
    entries.filter((entry) => entry.isFile()).map((entry) => readFile(join(entry.parentPath, entry.name), 'utf8')),
  );
}
