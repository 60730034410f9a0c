import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition, type Condition } from '../../../src/domain/condition.ts';
import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { transient } from '../../../src/domain/errors.ts';
import { EMPTIED_KEY, emptiedKey, PAUSE_KEY, removalsSchema } from '../../../src/domain/fleet.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import type { Grant, GrantKind } from '../../../src/domain/grant.ts';
import { stateKey } from '../../../src/domain/state-key.ts';
import { workspaceKey, type WorkspaceKey } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION, DEFAULT_POLICY, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import type { ControllerState } from '../../../src/ports/controller-state.ts';
import type { PluginHost } from '../../../src/ports/plugin-host.ts';
import { FleetGuard } from '../../../src/reconcile/fleet-guard.ts';
import { createWorkshop, type Workshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';
import { everythingIn } from '../../support/temp-dir.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: { ...DEFAULT_GUARDS, emptiedPerHour: 2 },
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};
const FRESH = { removals: [], version: undefined };
const LAST_PLUGIN = { plugins: ['a'], strangers: new Set<string>(), isEmptying: true };
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'] as const;

/** Design section 3, step 5: what is planned, and not carried out. */
describe('the gate of a pass', () => {
  let world: SmallWorld;
  let workshop: Workshop;

  beforeEach(async () => {
    world = await createSmallWorld();
    workshop = createWorkshop(world.ports, LIMITS, () => undefined);
    for (const name of NAMES) await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': `${name} 1\n` });
  });
  afterEach(async () => {
    workshop.revisions.stop();
    await world.close();
  });

  interface Declared {
    readonly plugins: readonly string[];
    readonly policy?: WorkspaceManifest['spec']['policy'];
    readonly approved?: string;
    readonly requested?: string;
    readonly name?: string;
    /** Directory; default: the name. */
    readonly target?: string;
  }

  const home = (name = 'alice'): string => join(world.dirs.root, name);
  const declare = async (declared: Declared): Promise<WorkspaceKey> => {
    const { plugins, policy, approved, requested, name = 'alice', target = name } = declared;
    await mkdir(home(target), { recursive: true });
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: {
        name,
        annotations: {
          ...(approved === undefined ? {} : { 'plugset.dev/approved-plan': approved }),
          ...(requested === undefined ? {} : { 'plugset.dev/requestedAt': requested }),
        },
      },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home(target) } },
        plugins: plugins.map((plugin) => ({ name: plugin, source: plugin })),
        policy,
      },
    });
    return workspaceKey('default', name);
  };
  const signal = (): AbortSignal => new AbortController().signal;
  const status = async (key = KEY): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(key, signal());
    if (loaded.kind === 'absent') throw new Error(`${key} is absent`);
    return loaded.status;
  };
  const pass = async (key = KEY): Promise<WorkspaceStatus> => {
    await workshop.reconciler.reconcile(key, FENCE, signal());
    return status(key);
  };
  const passOfAnother = async (fence = FENCE, ports = world.ports): Promise<unknown> => {
    const other = createWorkshop(ports, LIMITS, () => undefined);
    return other.reconciler.reconcile(KEY, fence, signal()).finally(() => other.revisions.stop());
  };
  const converge = async (declared: Declared): Promise<WorkspaceStatus> => pass(await declare(declared));
  const ready = ({ conditions }: WorkspaceStatus): Condition | undefined => findCondition(conditions, 'Ready');
  const installed = async (name = 'alice'): Promise<readonly string[]> =>
    (await readdir(join(home(name), 'plugins')).catch((): string[] => [])).toSorted();

  describe('mode Observe', () => {
    const policy = { mode: 'Observe' } as const;

    it('looks, reports and writes nothing anywhere', async () => {
      await mkdir(join(home(), 'plugins/mine'), { recursive: true });
      const before = await everythingIn(home());
      const seen = await converge({ plugins: ['a'], policy });
      expect(await everythingIn(home())).toEqual(before);
      expect(ready(seen)).toMatchObject({ status: 'False', reason: 'ObserveOnly' });
      expect(ready(seen)?.message).toContain('install a');
      expect(findCondition(seen.conditions, 'Reconciling')).toBeUndefined();
      expect(seen).toMatchObject({ observedGeneration: 1, held: { changes: [expect.stringContaining('install a')] } });
      expect(seen.plugins).toMatchObject([
        { name: 'mine', state: 'Unmanaged' },
        { name: 'a', state: 'Pending', reason: 'ObserveOnly' },
      ]);
      expect(await pass()).toEqual(seen);
    });

    it('finishes no change that was interrupted, and neither does a pause', async () => {
      await converge({ plugins: ['a'] });
      const journal = join(home(), '.plugset/journal.d/interrupted');
      await writeFile(journal, 'put a\n');
      await converge({ plugins: ['a'], policy });
      expect(await everythingIn(home())).toContain('.plugset/journal.d/interrupted');
      const pause = { since: '2026-11-23T00:00:00Z', by: 'ann', reason: '' };
      const version = await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, signal());
      await converge({ plugins: ['a'] });
      expect(await everythingIn(home())).toContain('.plugset/journal.d/interrupted');
      await world.ports.state.remove(PAUSE_KEY, version ?? '', signal());
      await rm(join(home(), 'plugins/a/SKILL.md'));
      await converge({ plugins: ['a', 'b'] });
      expect(await everythingIn(home())).not.toContain('.plugset/journal.d/interrupted');
    });

    it('is Ready where everything is as declared, and shows drift where it is not', async () => {
      await converge({ plugins: ['a'] });
      const fine = await converge({ plugins: ['a'], policy });
      expect(ready(fine)).toMatchObject({ status: 'True' });
      await rm(join(home(), 'plugins/a'), { recursive: true });
      const drifted = await pass();
      expect(drifted.plugins).toMatchObject([{ name: 'a', state: 'Drifted', reason: 'Missing' }]);
      expect(ready(drifted)).toMatchObject({ status: 'False', reason: 'ObserveOnly' });
      expect(findCondition(drifted.conditions, 'Drifted')).toMatchObject({ status: 'True' });
      expect(await installed()).toEqual([]);
    });

    it('lets a deleted workspace go and its target as it is', async () => {
      await converge({ plugins: ['a'] });
      const key = await declare({ plugins: ['a'], policy });
      world.backend.remove(key);
      await workshop.reconciler.reconcile(key, FENCE, signal());
      expect(await installed()).toEqual(['a']);
      expect((await world.ports.store.get(key, signal())).kind).toBe('absent');
    });
  });

  describe('mode Plan', () => {
    const policy = { mode: 'Plan' } as const;

    it('publishes the plan and carries out that very one when it is approved, once', async () => {
      const waiting = await converge({ plugins: ['a'], policy });
      expect(ready(waiting)).toMatchObject({ status: 'False', reason: 'AwaitingApproval' });
      expect(ready(waiting)?.message).toContain(`plugset approve default/alice ${waiting.planId}`);
      expect(await installed()).toEqual([]);

      const approved = waiting.planId ?? '';
      const done = await converge({ plugins: ['a'], policy, approved });
      expect(await installed()).toEqual(['a']);
      expect(ready(done)).toMatchObject({ status: 'True' });
      expect(done).toMatchObject({ lastHandledApproval: approved, history: [{ outcome: 'Succeeded' }] });

      // The same world again gives the same plan: the approval of the first is no approval of the second.
      await rm(join(home(), '.plugset'), { recursive: true });
      await rm(join(home(), 'plugins'), { recursive: true });
      const again = await pass();
      expect(await installed()).toEqual([]);
      expect(ready(again)).toMatchObject({ reason: 'AwaitingApproval' });
      const twice = await converge({ plugins: ['a'], policy, approved: `${again.planId}@twice` });
      expect(ready(twice)).toMatchObject({ status: 'True' });
      expect(await installed()).toEqual(['a']);
    });

    it('voids an approval when the world has changed meanwhile', async () => {
      const { planId = '' } = await converge({ plugins: ['a'], policy });
      const changed = await converge({ plugins: ['a', 'b'], policy, approved: planId });
      expect(await installed()).toEqual([]);
      expect(changed.planId).not.toBe(planId);
      expect(changed).toMatchObject({ lastHandledApproval: planId, history: [{ planId, outcome: 'Voided' }] });
      // Undoing the change does not bring the approval back.
      await converge({ plugins: ['a'], policy, approved: planId });
      expect(await installed()).toEqual([]);
    });

    it('voids one when a file was edited where no probe can see it', async () => {
      await converge({ plugins: ['a'] });
      await converge({ plugins: ['a', 'b'], policy });
      const { planId = '' } = await pass();
      await writeFile(join(home(), 'plugins/a/SKILL.md'), 'edited\n');
      const changed = await converge({ plugins: ['a', 'b'], policy, approved: planId });
      expect(changed).toMatchObject({ history: [{ planId, outcome: 'Voided' }, {}] });
      expect(await installed()).toEqual(['a']);
    });

    it('voids one when the workspace points somewhere else meanwhile, however alike it is there', async () => {
      const { planId = '' } = await converge({ plugins: ['a'], policy });
      await converge({ plugins: ['a'], policy, approved: planId, target: 'elsewhere' });
      expect(await installed('elsewhere')).toEqual([]);
    });

    it('keeps one while a source cannot be asked: that changes nothing in the world', async () => {
      const { planId = '' } = await converge({ plugins: ['a', 'b'], policy });
      const [here, away] = [join(world.dirs.registry, 'b'), join(world.dirs.registry, '.away')];
      await rename(here, away);
      await declare({ plugins: ['a', 'b'], policy, approved: planId });
      // A controller that was started a moment ago knows of no revision.
      await passOfAnother();
      expect((await status()).plugins).toMatchObject([{ name: 'a' }, { name: 'b', state: 'Failed' }]);
      expect((await status()).lastHandledApproval).toBeUndefined();
      expect(await installed()).toEqual([]);
      await rename(away, here);
      await passOfAnother();
      expect(await installed()).toEqual(['a', 'b']);
    });

    it('keeps one that could not be carried out, and tries that very plan again', async () => {
      const { planId = '' } = await converge({ plugins: ['a'], policy });
      await declare({ plugins: ['a'], policy, approved: planId });
      const failing = {
        observe: (...args: Parameters<PluginHost['observe']>) => world.ports.host.observe(...args),
        converge: () => Promise.reject(transient('LockHeld', 'somebody else is at it')),
      };
      await expect(passOfAnother(FENCE, { ...world.ports, host: failing })).rejects.toThrow('somebody else is at it');
      expect((await status()).lastHandledApproval).toBeUndefined();
      expect(ready(await pass())).toMatchObject({ status: 'True' });
    });

    it('voids one when the target has changed between approval and execution', async () => {
      const { planId = '' } = await converge({ plugins: ['a'], policy });
      await mkdir(join(home(), 'plugins/a'), { recursive: true });
      await writeFile(join(home(), 'plugins/a/theirs'), 'theirs');
      await converge({ plugins: ['a'], policy, approved: planId });
      expect(await readdir(join(home(), 'plugins/a'))).toEqual(['theirs']);
    });
  });

  describe('a pause of the fleet', () => {
    it('changes nothing, not even what was approved, and says who paused; then goes on', async () => {
      const pause = { since: '2026-11-23T00:00:00Z', by: 'ann@desk', reason: 'incident 12' };
      const version = await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, signal());
      const { planId = '' } = await converge({ plugins: ['a'] });
      const paused = await converge({ plugins: ['a'], approved: planId });
      expect(ready(paused)).toMatchObject({ status: 'False', reason: 'Paused' });
      expect(ready(paused)?.message).toMatch(/by ann@desk since 2026-11-23T00:00:00Z \(incident 12\)/);
      expect(await installed()).toEqual([]);
      await world.ports.state.remove(PAUSE_KEY, version ?? '', signal());
      expect(ready(await pass())).toMatchObject({ status: 'True' });
    });

    it('that cannot be asked for is no permission', async () => {
      await declare({ plugins: ['a'] });
      const broken = { ...world.ports.state, get: () => Promise.reject(new Error('no state')) };
      await expect(passOfAnother(FENCE, { ...world.ports, state: broken })).rejects.toThrow(/unexpected fault/);
      expect(await installed()).toEqual([]);
    });
  });

  describe('the caps on removing', () => {
    const forgetRemovals = async (): Promise<void> => {
      const document = await world.ports.state.get(stateKey('removals', KEY), signal());
      await world.ports.state.remove(stateKey('removals', KEY), document?.version ?? '', signal());
    };

    it('hold most of a set back, and nothing else; approval lets it go', async () => {
      await converge({ plugins: ['a', 'b', 'c', 'd', 'e'] });
      const held = await converge({ plugins: ['a', 'f'] });
      expect(await installed()).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
      expect(ready(held)).toMatchObject({ status: 'False', reason: 'PruneHeld' });
      expect(ready(held)?.message).toContain('4 of 6 plugins would be removed at once');
      expect(held.plugins.filter(({ state }) => state === 'Held').map(({ name }) => name)).toEqual([
        'b',
        'c',
        'd',
        'e',
      ]);
      const done = await converge({ plugins: ['a', 'f'], approved: held.planId ?? '' });
      expect(ready(done)).toMatchObject({ status: 'True' });
      expect(await installed()).toEqual(['a', 'f']);
    });

    describe('and plugins that nobody declared, on the word of the target alone', () => {
      const plant = async (...names: readonly string[]): Promise<void> => {
        for (const name of names) {
          await mkdir(join(home(), 'plugins', name), { recursive: true });
          await writeFile(join(home(), '.plugset/receipts', name), '');
        }
      };
      const TEN = Array.from({ length: 10 }, (_, index) => `x${index}`);

      it('do not hold what was declared back, however many and whenever they come', async () => {
        await converge({ plugins: ['a', 'b', 'c', 'd'] });
        await plant(...TEN);
        const without = await converge({ plugins: ['a', 'b', 'c'], requested: '1' });
        expect(await installed()).toEqual(['a', 'b', 'c', ...TEN]);
        expect(ready(without)).toMatchObject({ status: 'False', reason: 'PruneHeld' });
        expect(ready(without)?.message).toMatch(
          /10 of 13 .*; 10 of these were never seen declared, and they alone wait/,
        );
        await converge({ plugins: ['a', 'b'], requested: '2' });
        expect(await installed()).toEqual(['a', 'b', ...TEN]);
        const { planId } = await pass();
        await converge({ plugins: ['a', 'b'], approved: planId ?? '' });
        expect(await installed()).toEqual(['a', 'b']);
      });

      it('use no room up when a few of them go', async () => {
        await converge({ plugins: ['a', 'b', 'c', 'd'] });
        await plant('x', 'y', 'z');
        await converge({ plugins: ['a', 'b', 'c', 'd'], requested: '1' });
        expect(await installed()).toEqual(['a', 'b', 'c', 'd']);
        expect(ready(await converge({ plugins: ['a'] }))).toMatchObject({ status: 'True' });
        expect(await installed()).toEqual(['a']);
      });

      it('let nothing go that the caps hold without them, also while that waits', async () => {
        await converge({ plugins: ['a', 'b', 'c', 'd', 'e'] });
        await plant(...TEN);
        for (const requested of ['1', '2']) {
          const held = await converge({ plugins: ['a'], requested });
          expect(ready(held)?.message).toContain('14 of 15 plugins would be removed at once; undo the edit');
        }
        await forgetRemovals();
        await converge({ plugins: ['a', 'b', 'c'], requested: '3' });
        expect(await installed()).toEqual(['a', 'b', 'c', 'd', 'e', ...TEN]);
        await converge({ plugins: ['a', 'b', 'c', 'd', 'e'], requested: '4' });
        await converge({ plugins: ['a', 'b', 'c', 'd'], requested: '5' });
        expect(await installed()).toEqual(['a', 'b', 'c', 'd', ...TEN]);
      });

      it('do not keep a former place from being cleaned', async () => {
        await converge({ plugins: ['a', 'b'] });
        await plant(...TEN);
        await converge({ plugins: ['a', 'b'], target: 'away' });
        expect([await installed('away'), await installed()]).toEqual([['a', 'b'], []]);
      });

      it('do not keep a former place from being cleaned when they are in the new one', async () => {
        await converge({ plugins: ['a'], target: 'away' });
        await rename(home('away'), home());
        await plant(...TEN);
        await rename(home(), home('next'));
        await converge({ plugins: ['a'] });
        await converge({ plugins: ['a', 'b'], target: 'next' });
        expect([await installed('next'), await installed()]).toEqual([['a', 'b', ...TEN], []]);
      });
    });

    it('are lifted by undoing the edit, and by policy.allowEmpty', async () => {
      await converge({ plugins: ['a', 'b', 'c', 'd'] });
      expect(ready(await converge({ plugins: [] }))).toMatchObject({ reason: 'PruneHeld' });
      expect(ready(await converge({ plugins: ['a', 'b', 'c', 'd'] }))).toMatchObject({ status: 'True' });
      expect(ready(await converge({ plugins: [], policy: { allowEmpty: true } }))).toMatchObject({ status: 'True' });
      expect(await installed()).toEqual([]);
    });

    it('let three go, and half, within an hour: not three and then three', async () => {
      await converge({ plugins: NAMES });
      await converge({ plugins: ['a', 'b', 'c'] });
      expect(await installed()).toEqual(['a', 'b', 'c']);
      const held = await converge({ plugins: [] });
      expect(ready(held)?.message).toContain('6 of 6 plugins would be removed within an hour');
      // Neither a controller that was started meanwhile nor the end of the hour lets them go.
      await passOfAnother();
      expect(await installed()).toEqual(['a', 'b', 'c']);
      await forgetRemovals();
      expect(ready(await pass())).toMatchObject({ reason: 'PruneHeld' });
      expect(await installed()).toEqual(['a', 'b', 'c']);
      expect(ready(await converge({ plugins: ['a', 'b', 'c'] }))).toMatchObject({ status: 'True' });
      await converge({ plugins: [] });
      expect(await installed()).toEqual([]);
    });

    it('do not count what is back, nor what somebody has agreed to', async () => {
      await converge({ plugins: NAMES });
      await converge({ plugins: ['a', 'b', 'c'] });
      await converge({ plugins: NAMES });
      await converge({ plugins: ['d', 'e', 'f'] });
      expect(await installed()).toEqual(['d', 'e', 'f']);
      const { planId = '' } = await converge({ plugins: ['d'] });
      expect(await installed()).toEqual(['d', 'e', 'f']);
      await converge({ plugins: ['d'], approved: planId });
      expect(await installed()).toEqual(['d']);
      await converge({ plugins: [] });
      expect(await installed()).toEqual([]);
    });

    it('begin the hour of what came back anew when it goes again', async () => {
      await converge({ plugins: NAMES });
      await converge({ plugins: ['a', 'b', 'c'] });
      const document = await world.ports.state.get(stateKey('removals', KEY), signal());
      const almostAnHourAgo = removalsSchema
        .parse(document?.value)
        .map(({ plugin, atMs }) => ({ plugin, atMs: atMs - 59 * 60_000 }));
      await world.ports.state.compareAndSwap(stateKey('removals', KEY), document?.version, almostAnHourAgo, signal());
      await converge({ plugins: NAMES });
      await converge({ plugins: ['a', 'b', 'c'] });
      const again = await world.ports.state.get(stateKey('removals', KEY), signal());
      const times = removalsSchema.parse(again?.value).map(({ atMs }) => world.ports.clock.now() - atMs);
      expect(times.filter((ageMs) => ageMs < HOUR / 2)).toHaveLength(3);
    });

    it('hold what the whole fleet would lose beyond its hourly number, however little it is anywhere', async () => {
      const few = createWorkshop(
        world.ports,
        { ...LIMITS, guards: { ...DEFAULT_GUARDS, removedPerHour: 2 } },
        () => undefined,
      );
      for (const name of ['w1', 'w2', 'w3']) await converge({ plugins: ['a', 'b'], name });
      for (const name of ['w1', 'w2', 'w3']) {
        const key = await declare({ plugins: ['a'], name });
        await few.reconciler.reconcile(key, FENCE, signal());
      }
      few.revisions.stop();
      expect([await installed('w1'), await installed('w2'), await installed('w3')]).toEqual([['a'], ['a'], ['a', 'b']]);
      const held = await status(workspaceKey('default', 'w3'));
      expect(ready(held)?.message).toContain('guards.removedPerHour');
    });

    it('hold workspaces beyond the hourly number back, deleted ones too, until somebody agrees', async () => {
      const names = ['w1', 'w2', 'w3', 'w4'];
      for (const name of names) await converge({ plugins: ['a'], name });
      await converge({ plugins: [], name: 'w1' });
      // Whoever only looks takes no room.
      const w3 = await declare({ plugins: [], name: 'w3' });
      expect((await workshop.dryLooks.preview(w3, 'us', signal())).kind).toBe('planned');
      const w2 = await declare({ plugins: ['a'], name: 'w2' });
      world.backend.remove(w2);
      await workshop.reconciler.reconcile(w2, FENCE, signal());
      expect([await installed('w1'), await installed('w2')]).toEqual([[], []]);

      const held = await converge({ plugins: [], name: 'w3' });
      expect(ready(held)).toMatchObject({ status: 'False', reason: 'PruneHeld' });
      const w4 = await declare({ plugins: ['a'], name: 'w4' });
      world.backend.remove(w4);
      expect(ready(await pass(w4))).toMatchObject({ status: 'False', reason: 'PruneHeld' });
      expect([await installed('w3'), await installed('w4')]).toEqual([['a'], ['a']]);

      // Whoever was counted may be emptied again, and an approval needs no room in the count.
      expect(ready(await converge({ plugins: ['a'], name: 'w1' }))).toMatchObject({ status: 'True' });
      expect(ready(await converge({ plugins: [], name: 'w1' }))).toMatchObject({ status: 'True' });
      await converge({ plugins: [], name: 'w3', approved: held.planId ?? '' });
      expect(await installed('w3')).toEqual([]);
    });
  });

  describe('a workspace that would be emptied beyond the hourly number', () => {
    const hourIsOver = async (): Promise<void> => {
      for (const key of [EMPTIED_KEY, emptiedKey('default')]) {
        const document = await world.ports.state.get(key, signal());
        await world.ports.state.remove(key, document?.version ?? '', signal());
      }
    };
    let w3: WorkspaceKey;

    beforeEach(async () => {
      for (const name of ['w1', 'w2', 'w3']) await converge({ plugins: ['a'], name });
      for (const name of ['w1', 'w2', 'w3']) await converge({ plugins: [], name });
      w3 = workspaceKey('default', 'w3');
      expect(ready(await status(w3))).toMatchObject({ reason: 'PruneHeld' });
    });

    it('is not let go by a pause that somebody made because of it', async () => {
      const pause = { since: '2026-11-23T00:00:00Z', by: 'ann', reason: '' };
      const version = await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, signal());
      expect(ready(await pass(w3))).toMatchObject({ reason: 'Paused' });
      await world.ports.state.remove(PAUSE_KEY, version ?? '', signal());
      await hourIsOver();
      expect(ready(await pass(w3))).toMatchObject({ reason: 'PruneHeld' });
      expect(await installed('w3')).toEqual(['a']);
    });

    it('is not let go by a pass that could not look', async () => {
      await rename(home('w3'), home('away'));
      await expect(pass(w3)).rejects.toThrow(/does not exist|no such/i);
      await rename(home('away'), home('w3'));
      await hourIsOver();
      expect(ready(await pass(w3))).toMatchObject({ reason: 'PruneHeld' });
      expect(await installed('w3')).toEqual(['a']);
    });

    it('is let go by an undone edit, and then counts anew', async () => {
      expect(ready(await converge({ plugins: ['a'], name: 'w3' }))).toMatchObject({ status: 'True' });
      await hourIsOver();
      expect(ready(await converge({ plugins: [], name: 'w3' }))).toMatchObject({ status: 'True' });
      expect(await installed('w3')).toEqual([]);
    });
  });

  it('does not count one that gets another plugin for its last as emptied', async () => {
    for (const name of ['w1', 'w2', 'w3']) {
      await converge({ plugins: ['a'], name });
      expect(ready(await converge({ plugins: ['b'], name }))).toMatchObject({ status: 'True' });
    }
  });

  it('counts many workspaces that are emptied at the same time', async () => {
    const guard = new FleetGuard({ ...world.ports, guards: { ...DEFAULT_GUARDS, emptiedPerHour: 20 } });
    const keys = Array.from({ length: 30 }, (_, index) => workspaceKey('default', `w${index}`));
    const answers = await Promise.all(
      keys.map((workspace) => guard.admit({ ...LAST_PLUGIN, workspace }, FRESH, false, signal())),
    );
    expect(answers.filter((refusal) => refusal === undefined)).toHaveLength(20);
  });

  it('lets no namespace use up what others may empty', async () => {
    const guard = new FleetGuard({ ...world.ports, guards: { ...DEFAULT_GUARDS, emptiedPerHour: 2 } });
    const mayEmpty = async (namespace: string, name: string): Promise<boolean> => {
      const removal = { ...LAST_PLUGIN, workspace: workspaceKey(namespace, name) };
      return (await guard.admit(removal, FRESH, false, signal())) === undefined;
    };
    const tries = [];
    for (const name of ['w1', 'w2', 'w3', 'w4']) tries.push(await mayEmpty('team-a', name));
    expect(tries).toEqual([true, true, false, false]);
    expect(await mayEmpty('team-b', 'w1')).toBe(true);
    expect(await mayEmpty('team-b', 'w2')).toBe(true);
    expect(await mayEmpty('team-c', 'w1'), 'a mistake over all of them').toBe(false);
  });

  it('does not take a count that cannot be read for an empty one', async () => {
    const { state } = world.ports;
    await state.compareAndSwap(EMPTIED_KEY, undefined, 'damaged', signal());
    const guard = new FleetGuard({ ...world.ports, guards: DEFAULT_GUARDS });
    const removal = { ...LAST_PLUGIN, workspace: KEY };
    await expect(guard.admit(removal, FRESH, false, signal())).rejects.toThrow(
      /fleet\/emptied cannot be read; remove it/,
    );
    await state.compareAndSwap(stateKey('removals', KEY), undefined, 'damaged', signal());
    await expect(guard.removedLately(KEY, signal())).rejects.toThrow(
      /removals\/default\/alice cannot be read; remove it/,
    );
  });

  describe('what the operator grants', () => {
    const grant = async (kind: GrantKind, subject: string, atMs = Date.now(), generation?: number): Promise<void> => {
      const key = stateKey(kind, KEY);
      const before = await world.ports.state.get(key, signal());
      const value: Grant = { text: `${subject}@${atMs}`, by: 'ann@desk', atMs, generation };
      await world.ports.state.compareAndSwap(key, before?.version, value, signal());
    };
    const isLeft = async (kind: GrantKind): Promise<boolean> =>
      (await world.ports.state.get(stateKey(kind, KEY), signal())) !== undefined;
    const byAnother = async (): Promise<void> => {
      for (const part of ['.plugset', 'plugins']) await rm(join(home(), part), { recursive: true, force: true });
      await passOfAnother({ ...FENCE, authority: 'them' });
    };

    it('takes a target over from whom it names, one time, on record; an annotation cannot', async () => {
      await converge({ plugins: ['a'] });
      await byAnother();
      const row = world.backend.rows.get(KEY);
      if (row !== undefined) row.manifest.metadata.annotations = { 'plugset.dev/takeover': 'them@now' };
      await expect(pass()).rejects.toThrow(/another controller/);
      await grant('takeover', 'somebody-else');
      await expect(pass()).rejects.toThrow(/another controller/);
      expect(await isLeft('takeover'), 'it is void').toBe(false);
      await grant('takeover', 'them');
      const taken = await pass();
      expect(ready(taken)).toMatchObject({ status: 'True' });
      expect(taken.lastHandledTakeover).toMatch(/^them@/);
      expect(taken.history[0]?.summary).toBe('took the target over from them; takeover asked for by ann@desk');
      expect(await isLeft('takeover')).toBe(false);
      await byAnother();
      await expect(pass()).rejects.toThrow(/another controller/);
    });

    it('takes over no target that the declaration was turned to since', async () => {
      await converge({ plugins: ['a'], target: 'mine' });
      await declare({ plugins: ['a'] });
      await byAnother();
      const generation = world.backend.rows.get(KEY)?.generation ?? 0;
      await grant('takeover', 'them', Date.now(), generation - 1);
      await expect(pass()).rejects.toThrow(/another controller/);
      expect(await isLeft('takeover'), 'it is void').toBe(false);
      await grant('takeover', 'them', Date.now(), generation);
      expect(ready(await pass())).toMatchObject({ status: 'True' });
    });

    it('is void when it does not apply, to whoever wants an answer, and a day later for everybody', async () => {
      await converge({ plugins: ['a'] });
      await grant('takeover', 'them');
      await converge({ plugins: ['a'], requested: 'now' });
      expect((await status()).lastHandledTakeover).toMatch(/^them@/);
      expect(await isLeft('takeover')).toBe(false);
      await grant('takeover', 'them', Date.now() - 25 * HOUR);
      await byAnother();
      await expect(pass()).rejects.toThrow(/another controller/);
    });

    it('approves the plan that waits, one time; what changed meanwhile voids it', async () => {
      const policy = { mode: 'Plan' } as const;
      const { planId = '' } = await converge({ plugins: ['a'], policy });
      await grant('approval', planId);
      const voided = await converge({ plugins: ['a', 'b'], policy });
      expect(voided.history).toMatchObject([{ planId, outcome: 'Voided' }]);
      expect(await isLeft('approval')).toBe(false);
      await grant('approval', voided.planId ?? '');
      const done = await pass();
      expect(ready(done)).toMatchObject({ status: 'True' });
      expect(done.history[0]?.summary).toMatch(/; approved by ann@desk$/);
      expect(await isLeft('approval')).toBe(false);
    });

    it('approves nothing that was edited where no probe can see it', async () => {
      await converge({ plugins: ['a'] });
      await converge({ plugins: ['a', 'b'], policy: { mode: 'Plan' } });
      const { planId = '' } = await pass();
      await writeFile(join(home(), 'plugins/a/SKILL.md'), 'edited\n');
      await grant('approval', planId);
      expect((await pass()).history).toMatchObject([{ planId, outcome: 'Voided' }, {}]);
      expect(await installed()).toEqual(['a']);
    });

    it('lets go what a guard holds', async () => {
      await converge({ plugins: NAMES });
      const { planId = '' } = await converge({ plugins: ['a'] });
      expect(await installed()).toHaveLength(6);
      await grant('approval', planId);
      expect(ready(await pass())).toMatchObject({ status: 'True' });
      expect(await installed()).toEqual(['a']);
    });

    it('costs a pass over nothing to do no question', async () => {
      const asked: string[] = [];
      const { state } = world.ports;
      const counting: ControllerState = {
        get: (key, until) => {
          asked.push(key);
          return state.get(key, until);
        },
        compareAndSwap: (...args) => state.compareAndSwap(...args),
        remove: (...args) => state.remove(...args),
        list: (...args) => state.list(...args),
      };
      await converge({ plugins: ['a', 'b'] });
      await passOfAnother(FENCE, { ...world.ports, state: counting });
      expect(asked).toEqual([]);
    });
  });

  describe('a policy that the operator has locked', () => {
    beforeEach(() => {
      world.backend.defaultPolicy = { ...DEFAULT_POLICY, mode: 'Plan', locked: ['mode', 'adopt'] };
    });

    it('holds whatever the declaration says, and a condition says so', async () => {
      const seen = await converge({ plugins: ['a'], policy: { mode: 'Apply', adopt: 'Equal', drift: 'Warn' } });
      expect(ready(seen)).toMatchObject({ reason: 'AwaitingApproval' });
      expect(findCondition(seen.conditions, 'PolicyOverruled')).toMatchObject({
        status: 'True',
        reason: 'PolicyLocked',
        message: "policy.mode is Plan (operator's); the declaration asks for Apply",
      });
      expect(await installed()).toEqual([]);
      const agreed = await converge({ plugins: ['a'] });
      expect(findCondition(agreed.conditions, 'PolicyOverruled')).toBeUndefined();
    });

    it('is not lifted by an annotation', async () => {
      const { planId = '' } = await converge({ plugins: ['a'] });
      const seen = await converge({ plugins: ['a'], approved: planId });
      expect(ready(seen)).toMatchObject({ reason: 'AwaitingApproval' });
      expect(findCondition(seen.conditions, 'PolicyOverruled')).toMatchObject({
        message: expect.stringMatching(
          /^approvals by annotation \(plugset\.dev\/approved-plan\) do not count here; ask the operator for: plugset approve \S+ sha256:[0-9a-f]{64}$/,
        ),
      });
      expect(await installed()).toEqual([]);
    });
  });

  describe('policy.adopt', () => {
    it('Replace puts the declared tree in the place of a foreign one, and keeps its files', async () => {
      await mkdir(join(home(), 'plugins/a'), { recursive: true });
      await writeFile(join(home(), 'plugins/a/theirs'), 'theirs');
      const taken = await converge({ plugins: ['a'] }).catch(() => status());
      expect(taken.plugins).toMatchObject([{ name: 'a', state: 'Failed', reason: 'NameTaken' }]);
      const replaced = await converge({ plugins: ['a'], policy: { adopt: 'Replace' } });
      expect(ready(replaced)).toMatchObject({ status: 'True' });
      expect(await readdir(join(home(), 'plugins/a'))).toEqual(['SKILL.md']);
      const kept = (await everythingIn(join(home(), '.plugset/kept'))).find((path) => path.endsWith('theirs'));
      expect(await readFile(join(home(), '.plugset/kept', kept ?? ''), 'utf8')).toBe('theirs');
    });
  });
});
