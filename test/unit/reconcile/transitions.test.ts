import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { transient } from '../../../src/domain/errors.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { Transition } from '../../../src/domain/transition.ts';
import { API_VERSION, type WorkspaceSpec } from '../../../src/domain/workspace.ts';
import { createWorkshop } from '../../../src/workshop.ts';
import { MemoryWorkspaceStore } from '../../support/memory-store.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: 3_600_000,
  resolveIntervalMs: 3_600_000,
};

describe('who wants to know what becomes of a workspace', () => {
  let world: SmallWorld;
  let home: string;
  let told: string[];
  let newest: Transition | undefined;

  beforeEach(async () => {
    world = await createSmallWorld();
    told = [];
    newest = undefined;
    home = join(world.dirs.root, 'alice');
    await mkdir(home);
    await writePlugin(join(world.dirs.registry, 'a'), { 'SKILL.md': 'a\n' });
  });
  afterEach(() => world.close());

  /** A pass of a controller that was just started. */
  const pass = async (ports = world.ports): Promise<void> => {
    const notify = (transition: Transition, authority: string): void => {
      newest = transition;
      const { from, to } = transition;
      told.push(`${from?.standing ?? 'nothing'} -> ${to.standing} ${to.reason} (${authority})`);
    };
    const { reconciler, revisions } = createWorkshop({ ...ports, notifier: { notify } }, LIMITS, () => undefined);
    await reconciler.reconcile(KEY, FENCE, new AbortController().signal).catch(() => undefined);
    revisions.stop();
  };
  const declare = (spec: Partial<WorkspaceSpec> = {}): void =>
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home } },
        plugins: [{ name: 'a', source: 'a' }],
        ...spec,
      },
    });

  it('is told of each turn once, whichever process makes the next pass', async () => {
    declare();
    await pass();
    await pass();
    expect(told).toEqual(['nothing -> Ready Succeeded (us)']);

    await rm(home, { recursive: true });
    await pass();
    await pass();
    await mkdir(home);
    await pass();
    expect(told.slice(1)).toEqual(['Ready -> NotReady WorkspaceNotFound (us)', 'NotReady -> Ready Succeeded (us)']);
  });

  it('is told what stands still and why, and which plugin it is', async () => {
    declare({ plugins: [{ name: 'b', source: 'nothing://b' }] });
    await pass();
    await pass();
    expect(told).toEqual(['nothing -> Stalled InvalidSource (us)']);
    expect(newest).toMatchObject({
      workspace: KEY,
      message: expect.stringContaining('nothing'),
      summary: '0/1',
      plugins: [{ name: 'b', reason: 'InvalidSource' }],
    });
  });

  it('is told of changes that wait for a person, and of what nobody works on', async () => {
    declare({ policy: { mode: 'Plan' } });
    await pass();
    await pass();
    declare({ suspend: true });
    await pass();
    expect(told).toEqual(['nothing -> Held AwaitingApproval (us)', 'Held -> Idle Suspended (us)']);
  });

  it('is told that a deletion has ended, whatever it waited for meanwhile', async () => {
    declare();
    await pass();
    await rm(home, { recursive: true });
    await writeFile(home, 'no directory');
    world.backend.remove(KEY);
    await pass();
    await pass();
    expect(told.slice(1)).toEqual([expect.stringMatching(/^Ready -> (NotReady|Stalled) /)]);
    await rm(home);
    await mkdir(home);
    await pass();
    await pass();
    expect(told.at(-1)).toBe('NotReady -> Deleted Succeeded (us)');
  });

  it('is told of one that goes without a word, where something was told of it before', async () => {
    const { reconciler, revisions } = createWorkshop(
      { ...world.ports, notifier: { notify: ({ from, to }) => void told.push(`${from?.standing} -> ${to.standing}`) } },
      LIMITS,
      () => undefined,
    );
    const { signal } = new AbortController();
    declare({ policy: { mode: 'Plan' } });
    await reconciler.reconcile(KEY, FENCE, signal);
    world.backend.rows.delete(KEY);
    await reconciler.reconcile(KEY, FENCE, signal);
    await reconciler.reconcile(KEY, FENCE, signal);
    expect(told).toEqual(['undefined -> Held', 'Held -> Deleted']);
    revisions.stop();
  });

  it('is told of drift that is left', async () => {
    declare({ policy: { drift: 'Warn' } });
    await pass();
    await writePlugin(join(home, 'plugins/a'), { 'SKILL.md': 'mine\n' });
    await pass();
    await pass();
    expect(told.at(-1)).toBe('Ready -> Drifted Drifted (us)');
    expect(told).toHaveLength(2);
  });

  it('is not told what the store did not take: the next pass tells it', async () => {
    declare();
    const { store } = world.ports;
    const refuses = new (class extends MemoryWorkspaceStore {
      override writeStatus(): Promise<void> {
        return Promise.reject(transient('StoreUnavailable', 'the disk is full'));
      }
    })(world.backend);
    await pass({ ...world.ports, store: refuses });
    expect(told).toEqual([]);
    await pass({ ...world.ports, store });
    expect(told).toEqual(['nothing -> Ready Succeeded (us)']);
  });
});
