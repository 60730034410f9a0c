import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DirectoryTargetProvider } from '../../../src/adapters/directory/directory-target-provider.ts';
import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import { transient, waiting } from '../../../src/domain/errors.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION, type Workspace } from '../../../src/domain/workspace.ts';
import type { Clock } from '../../../src/ports/clock.ts';
import type { ReconcileResult } from '../../../src/ports/reconciler.ts';
import type { Activator, RuntimeState, StoppedTarget, WorkspaceTarget } from '../../../src/ports/workspace-target.ts';
import { createWorkshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};

/** A runtime that somebody else starts anew. */
class Runtime implements Activator {
  startedAtMs = 1;
  wouldLose: string | undefined;

  async inspect(): Promise<RuntimeState> {
    return { startedAtMs: this.startedAtMs, isStarting: false, wouldLose: this.wouldLose };
  }

  async now(): Promise<number> {
    return this.startedAtMs + HOUR;
  }

  restarts = 0;

  async restart(): Promise<void> {
    this.restarts += 1;
    this.startedAtMs += 1;
    await this.entrypoint();
  }

  entrypoint = async (): Promise<void> => undefined;
}

class DirectoriesWithRuntime extends DirectoryTargetProvider {
  readonly runtime = new Runtime();
  isStopped = false;

  async locateStopped(): Promise<StoppedTarget | undefined> {
    const start = async (): Promise<void> => {
      this.isStopped = false;
      this.runtime.startedAtMs += 1;
    };
    return this.isStopped ? { description: 'alice', startedAtMs: this.runtime.startedAtMs, start } : undefined;
  }

  override async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    if (this.isStopped) throw waiting('WorkspaceNotRunning', 'alice is exited', 1000);
    return Object.assign(await super.locate(workspace, signal), { activator: this.runtime });
  }
}

/** What is remembered around changes; when restarts are due is in test/unit/domain/activation.test.ts. */
describe('the activation of a change', () => {
  let world: SmallWorld;
  let directories: DirectoriesWithRuntime;
  let home: string;

  beforeEach(async () => {
    world = await createSmallWorld();
    const { clock } = world.ports;
    directories = new DirectoriesWithRuntime({
      roots: [{ path: world.dirs.root }],
      path: process.env['PATH'] ?? '',
      clock,
    });
    home = join(world.dirs.root, 'alice');
    await mkdir(home);
    await writePlugin(join(world.dirs.registry, 'a'), { 'SKILL.md': 'a\n' });
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home } },
        plugins: [{ name: 'a', source: 'a' }],
      },
    });
  });
  afterEach(() => world.close());

  /** A pass of a controller that was started a moment ago; answers what is pending. */
  const pass = async (limits = LIMITS): Promise<string | undefined> => {
    await passOver(limits);
    return findCondition((await status()).conditions, 'ActivationPending')?.reason;
  };

  const passOver = async (
    limits: typeof LIMITS,
    clock = world.ports.clock,
    signal = new AbortController().signal,
  ): Promise<ReconcileResult> => {
    const workshop = createWorkshop({ ...world.ports, clock, providers: [directories] }, limits, () => undefined);
    const fence = { authority: 'us', epoch: 1, n: 1 };
    return workshop.reconciler.reconcile(KEY, fence, signal).finally(() => workshop.revisions.stop());
  };

  const status = async (): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(KEY, new AbortController().signal);
    if (loaded.kind !== 'found') throw new Error(`alice is ${loaded.kind}`);
    return loaded.status;
  };

  it('is owed until the runtime has started anew, whoever starts it', async () => {
    expect(await pass()).toBe('RestartPending');
    expect(await pass()).toBe('RestartPending');
    // Too early for a look at the runtime, so what the next controller waits for is what the first one did.
    directories.runtime.startedAtMs = 2;
    world.backend.declare({ ...declared(), spec: { ...declared().spec, policy: { restart: 'Never' } } });
    expect(await pass()).toBeUndefined();
  });

  it('is what the next pass is for, where it is due before the regular look', async () => {
    const seldom = { ...LIMITS, probeIntervalMs: HOUR };
    expect((await passOver(seldom)).requeueFor).toBe('restart');
    world.backend.declare({ ...declared(), spec: { ...declared().spec, policy: { restart: 'Never' } } });
    expect((await passOver(seldom)).requeueFor).toBeUndefined();
  });

  it('waits for an hour where what is remembered of restarts cannot be read', async () => {
    await world.ports.state.compareAndSwap(`activation/${KEY}`, undefined, 'damaged', new AbortController().signal);
    const atOnce = { ...LIMITS, activation: { ...DEFAULT_ACTIVATION, quietMs: 0 } };
    expect(await pass(atOnce)).toBe('RestartDeferred');
  });

  it('is no more often restarted because its workspace was deleted and declared again', async () => {
    const often = { ...LIMITS, activation: { ...DEFAULT_ACTIVATION, quietMs: 0, perHour: 2 } };
    const manifest = structuredClone(declared());
    for (let round = 0; round < 4; round++) {
      world.backend.declare(structuredClone(manifest));
      await pass(often);
      await pass(often);
      world.backend.remove(KEY);
      await passOver(often);
      expect(world.backend.rows.has(KEY), 'it is gone for good').toBe(false);
    }
    expect(directories.runtime.restarts).toBe(2);
  });

  it('is owed anew where a power cut has parted a change from its end', async () => {
    world.backend.declare({ ...declared(), spec: { ...declared().spec, policy: { restart: 'Never' } } });
    expect(await pass()).toBe('RestartNever');
    await writeFile(join(home, '.plugset/journal.d/interrupted'), 'put a\n');
    directories.runtime.startedAtMs = 2;
    expect(await pass()).toBe('RestartNever');
    const { history } = await status();
    expect(history[0]).toMatchObject({ outcome: 'Succeeded', summary: 'finished an interrupted change' });
    directories.runtime.startedAtMs = 3;
    expect(await pass()).toBeUndefined();
  });

  const AT_ONCE = { ...LIMITS, activation: { ...DEFAULT_ACTIVATION, quietMs: 0 } };

  it('is not repeated where the restart has lost what was installed', async () => {
    directories.runtime.entrypoint = () => rm(join(home, 'plugins'), { recursive: true });
    expect(await pass(AT_ONCE)).toBe('RestartPending');
    expect(await pass(AT_ONCE)).toBe('NotDurable');
    expect(await pass(AT_ONCE)).toBe('NotDurable');
    expect(directories.runtime.restarts).toBe(1);
  });

  it('is made for an edit by hand soon after a restart that has kept everything', async () => {
    expect(await pass(AT_ONCE)).toBe('RestartPending');
    expect(await pass(AT_ONCE)).toBeUndefined();
    await writeFile(join(home, 'plugins/a/SKILL.md'), 'edited\n');
    expect(await pass(AT_ONCE)).toBe('RestartPending');
    expect(await pass(AT_ONCE)).toBeUndefined();
    expect(directories.runtime.restarts).toBe(2);
  });

  it('is made where a workspace moves while the restart of the old place is under way', async () => {
    expect(await pass(AT_ONCE)).toBe('RestartPending');
    const moved = join(world.dirs.root, 'moved');
    await mkdir(moved);
    world.backend.declare({ ...declared(), spec: { ...declared().spec, target: { directory: { path: moved } } } });
    expect(await pass(AT_ONCE)).toBe('RestartPending');
    expect(await pass(AT_ONCE)).toBeUndefined();
    expect(directories.runtime.restarts).toBe(2);
  });

  it('is told in the history, with what it was for', async () => {
    await pass(AT_ONCE);
    const restarted = `restarted ${(await status()).target}, so that it takes up: install a sha256:`;
    const last = async (): Promise<unknown> => (await status()).history[0];
    expect(await last()).toMatchObject({ outcome: 'Succeeded', summary: expect.stringContaining(restarted) });
    expect((await status()).history[1]?.summary).toMatch(/^installed a/);
    await pass(AT_ONCE);
    expect((await status()).history).toHaveLength(2);
    directories.runtime.restart = async () => {
      throw transient('RestartFailed', 'the engine said no');
    };
    await writeFile(join(home, 'plugins/a/SKILL.md'), 'edited\n');
    await pass(AT_ONCE);
    expect(await last()).toMatchObject({ outcome: 'Failed', summary: expect.stringMatching(/^could not restart /) });
  });

  it('is told by the next controller where the last one ended over it', async () => {
    const ended = new AbortController();
    directories.runtime.restart = async () => {
      directories.runtime.startedAtMs += 1;
      ended.abort();
      throw new Error('the process ends');
    };
    await expect(passOver(AT_ONCE, world.ports.clock, ended.signal)).rejects.toThrow('ended');
    await pass(AT_ONCE);
    expect((await status()).history[0]).toMatchObject({
      outcome: 'Succeeded',
      summary: expect.stringMatching(/^restarted .*, so that it takes up: install a/),
    });
  });

  it.each([
    ['IfNeeded', undefined, { follows: true }],
    ['Never', undefined, { follows: false, reason: 'RestartNever' }],
    ['IfNeeded', 'it is on a tmpfs', { follows: false, reason: 'NotDurable' }],
  ] as const)('is foretold to who looks at a plan or agrees to it: %s, %s', async (restart, wouldLose, foretold) => {
    world.backend.declare({ ...declared(), spec: { ...declared().spec, policy: { mode: 'Plan', restart } } });
    directories.runtime.wouldLose = wouldLose;
    const workshop = createWorkshop({ ...world.ports, providers: [directories] }, LIMITS, () => undefined);
    const preview = async (): Promise<unknown> => {
      const seen = await workshop.dryLooks.preview(KEY, 'us', new AbortController().signal);
      return seen.kind === 'planned' && seen.restart;
    };
    expect(await preview()).toMatchObject(foretold);
    await pass();
    expect((await status()).held?.restart).toMatchObject(foretold);
    await pass();
    expect((await status()).held?.restart, 'nothing has changed').toMatchObject(foretold);
    world.backend.declare({ ...declared(), spec: { ...declared().spec, policy: { restart } } });
    await pass();
    expect(await preview(), 'nothing is to be done').toBeUndefined();
    workshop.revisions.stop();
  });

  it('makes up for a restart that left it stopped, though a clock was years ahead then', async () => {
    const atOnce = { ...LIMITS, activation: { ...DEFAULT_ACTIVATION, quietMs: 0 } };
    let nowMs = world.ports.clock.now() + 10 * 365 * 24 * HOUR;
    const clock: Clock = Object.assign(Object.create(world.ports.clock) as Clock, { now: () => nowMs });
    directories.runtime.restart = async () => {
      directories.isStopped = true;
      throw new Error('killed');
    };
    await passOver(atOnce, clock);
    expect(directories.isStopped).toBe(true);
    nowMs = world.ports.clock.now();
    await expect(passOver(atOnce, clock)).rejects.toMatchObject({ reason: 'WorkspaceNotRunning' });
    nowMs += 3 * 60_000;
    await passOver(atOnce, clock);
    expect(directories.isStopped).toBe(false);
    expect((await status()).history[0]).toMatchObject({
      outcome: 'Succeeded',
      summary: expect.stringMatching(/^started alice, so that it takes up: install a/),
    });
  });

  const declared = (): NonNullable<ReturnType<typeof world.backend.rows.get>>['manifest'] => {
    const row = world.backend.rows.get(KEY);
    if (row === undefined) throw new Error('alice is not declared');
    return row.manifest;
  };
});
