import { cp, mkdir, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import { transient, type ReconcileError } from '../../../src/domain/errors.ts';
import { EMPTIED_KEY, emptiedKey, PAUSE_KEY } from '../../../src/domain/fleet.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { workspaceKey, type WorkspaceKey } from '../../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../../src/domain/profile.ts';
import { stateKey } from '../../../src/domain/state-key.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import {
  API_VERSION,
  APPROVED_PLAN_ANNOTATION,
  type TargetSpec,
  type WorkspaceManifest,
} from '../../../src/domain/workspace.ts';
import type { ControllerState } from '../../../src/ports/controller-state.ts';
import type { PluginHost } from '../../../src/ports/plugin-host.ts';
import { createWorkshop, type PassPorts, type Workshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};
const PROFILES = BUILT_IN_PROFILES.map((profile) =>
  profile.runtime === 'langgraph'
    ? { ...profile, configDir: { docker: '/opt/configs', directory: 'opt/configs' } }
    : profile,
);
const signal = (): AbortSignal => new AbortController().signal;

describe('a workspace whose place changes', () => {
  let world: SmallWorld;
  let ports: PassPorts;
  let workshop: Workshop;
  let reads: string[];
  /** Paths that no provider can look at now. */
  let unreachable: Set<string>;

  beforeEach(async () => {
    world = await createSmallWorld();
    reads = [];
    unreachable = new Set();
    const { state, providers } = world.ports;
    const counted: ControllerState = {
      get: (key, until) => (reads.push(key), state.get(key, until)),
      compareAndSwap: (...args) => state.compareAndSwap(...args),
      remove: (...args) => state.remove(...args),
      list: (...args) => state.list(...args),
    };
    const [directory] = providers;
    if (directory === undefined) throw new Error('no provider');
    ports = {
      ...world.ports,
      state: counted,
      profiles: PROFILES,
      providers: [
        {
          kind: 'directory',
          addresses: (workspace) => directory.addresses(workspace),
          lane: (workspace) => directory.lane(workspace),
          close: () => directory.close(),
          locate: async ({ target, ...workspace }, until) => {
            const path = 'directory' in target ? target.directory.path : '';
            if (unreachable.has(path)) throw transient('Unreachable', `nobody answers for ${path}`);
            return directory.locate({ ...workspace, target }, until);
          },
        },
      ],
    };
    workshop = createWorkshop(ports, LIMITS, () => undefined);
    for (const name of ['old', 'new', 'third']) await mkdir(at(name));
    for (const name of ['a', 'b', 'c', 'd', 'e'])
      await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': name });
    declare('old');
    await pass();
  });
  afterEach(async () => {
    workshop.revisions.stop();
    await world.close();
  });

  const at = (name: string, ...rest: readonly string[]): string => join(world.dirs.root, name, ...rest);
  const manifest = (
    target: TargetSpec,
    spec: Partial<WorkspaceManifest['spec']>,
    name = 'alice',
  ): WorkspaceManifest => ({
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name },
    spec: { runtime: 'claude-code', target, plugins: [{ name: 'a', source: 'a' }], ...spec },
  });
  const declare = (path: string, spec: Partial<WorkspaceManifest['spec']> = {}, name = 'alice'): void =>
    world.backend.declare(manifest({ directory: { path: at(path) } }, spec, name));
  const pass = async (key: WorkspaceKey = KEY, by = workshop): Promise<ReconcileError | undefined> => {
    try {
      return (await by.reconciler.reconcile(key, FENCE, signal())).failure;
    } catch (error) {
      return error as ReconcileError;
    }
  };
  /** As by a process that knows nothing but what was written down. */
  const passAfresh = async (own: Partial<PassPorts> = {}, key = KEY): Promise<ReconcileError | undefined> => {
    const fresh = createWorkshop({ ...ports, ...own }, LIMITS, () => undefined);
    return pass(key, fresh).finally(() => fresh.revisions.stop());
  };
  const status = async (key = KEY): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(key, signal());
    if (loaded.kind === 'absent') throw new Error('absent');
    return loaded.status;
  };
  const condition = async (type: 'Ready' | 'LeftBehind' | 'Stalled'): Promise<string | undefined> => {
    const found = findCondition((await status()).conditions, type);
    return found && `${found.status} ${found.reason}: ${found.message}`;
  };
  const installed = async (...place: readonly [string, ...string[]]): Promise<readonly string[]> =>
    (await readdir(at(...place, 'plugins')).catch((): string[] => [])).toSorted();
  const remembered = async (): Promise<unknown> =>
    (await world.ports.state.get(stateKey('places', KEY), signal()))?.value;

  it('has its plugins in the new directory first, and then no more in the old one', async () => {
    await mkdir(at('old', 'plugins', 'mine'));
    declare('new');
    expect(await pass()).toBeUndefined();
    expect([await installed('new'), await installed('old')]).toEqual([['a'], ['mine']]);
    const { history } = await status();
    expect(history.map(({ summary }) => summary)).toEqual([
      expect.stringMatching(/^removed a .*; in directory .*old$/),
      expect.stringMatching(/^installed a /),
      expect.stringMatching(/^installed a /),
    ]);
    expect(await condition('LeftBehind')).toBeUndefined();
    expect(await remembered()).toMatchObject({ places: [{ target: { directory: { path: at('new') } } }] });
  });

  it('moves with the config directory of another runtime, and not at all where that is the same', async () => {
    declare('old', { runtime: 'hermes' });
    await pass();
    expect((await status()).history).toHaveLength(1);
    declare('old', { runtime: 'langgraph' });
    await mkdir(at('old', 'opt', 'configs'), { recursive: true });
    await pass();
    expect([await installed('old', 'opt', 'configs'), await installed('old')]).toEqual([['a'], []]);
  });

  it('keeps what stands in the old place while the new one cannot be had', async () => {
    declare('missing');
    expect(await pass()).toMatchObject({ reason: 'WorkspaceNotFound' });
    expect(await installed('old')).toEqual(['a']);
    await mkdir(at('missing'));
    const full: PluginHost = {
      observe: (...args) => world.ports.host.observe(...args),
      converge: async () => {
        throw transient('DiskFull', 'no space left');
      },
    };
    expect(await passAfresh({ host: full })).toMatchObject({ reason: 'DiskFull' });
    expect(await installed('old')).toEqual(['a']);
    expect(await condition('LeftBehind')).toMatch(/^True Progressing: left behind in directory .*old/);
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('missing'), await installed('old')]).toEqual([['a'], []]);
  });

  it('forgets no place, wherever the process ends', async () => {
    declare('new');
    // It ends after the new place was written down, before, and after the change there, each time without a status.
    for (const ending of ['before', 'after'] as const) {
      const host: PluginHost = {
        observe: (...args) => world.ports.host.observe(...args),
        converge: async (...args) => {
          if (ending === 'after') await world.ports.host.converge(...args);
          throw transient('Unreachable', 'killed');
        },
      };
      const store = Object.assign(Object.create(world.ports.store) as typeof world.ports.store, {
        get: (...args: Parameters<typeof world.ports.store.get>) => world.ports.store.get(...args),
        writeStatus: () => Promise.reject(transient('StoreUnavailable', 'killed')),
      });
      expect(await passAfresh({ host, store })).toMatchObject({ reason: 'StoreUnavailable' });
      expect(await installed('old')).toEqual(['a']);
    }
    declare('third');
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('old'), await installed('new'), await installed('third')]).toEqual([[], [], ['a']]);
    expect(await remembered()).toMatchObject({ places: [{ target: { directory: { path: at('third') } } }] });
  });

  it('goes back without harm when the edit is undone in the middle', async () => {
    declare('new');
    unreachable.add(at('old'));
    await pass();
    unreachable.clear();
    declare('old');
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('old'), await installed('new')]).toEqual([['a'], []]);
  });

  it('is Ready while the old place cannot be reached, says what is left, and takes it away once it can', async () => {
    declare('new');
    unreachable.add(at('old'));
    expect(await pass()).toBeUndefined();
    expect(await installed('new')).toEqual(['a']);
    expect(await condition('Ready')).toMatch(/^True Succeeded: 1 of 1 .*left behind in directory .*nobody answers/);
    expect(await condition('LeftBehind')).toMatch(/^True Unreachable: /);
    const written = await status();
    await pass();
    expect(await status(), 'and says it once').toEqual(written);
    unreachable.clear();
    await pass();
    expect(await installed('old'), 'nobody hurries a place that failed').toEqual(['a']);
    expect(await passAfresh()).toBeUndefined();
    expect(await installed('old')).toEqual([]);
    expect(await condition('LeftBehind')).toBeUndefined();
  });

  it('lets go of an old place that does not exist any more', async () => {
    await rm(at('old'), { recursive: true });
    declare('new');
    expect(await pass()).toBeUndefined();
    expect(await condition('LeftBehind')).toBeUndefined();
    expect(world.logger.lines.some(({ message }) => message === 'a former place is left as it is')).toBe(true);
  });

  it('lets go of a config directory that does not exist any more', async () => {
    declare('old', { runtime: 'langgraph' });
    await mkdir(at('old', 'opt', 'configs'), { recursive: true });
    await pass();
    await rm(at('old', 'opt'), { recursive: true });
    declare('new');
    expect(await pass()).toBeUndefined();
    expect(await condition('LeftBehind')).toBeUndefined();
  });

  it('takes nothing away where the old place is the new one under another path', async () => {
    await rename(at('old'), at('moved'));
    declare('moved');
    expect(await pass()).toBeUndefined();
    expect(await installed('moved')).toEqual(['a']);
    await mkdir(at('deep'));
    await rename(at('moved'), at('deep', 'moved'));
    await symlink(at('deep'), at('linked'));
    declare('deep/moved');
    await pass();
    declare('linked/moved');
    await pass();
    expect(await installed('deep', 'moved')).toEqual(['a']);
    expect((await status()).history).toHaveLength(1);
  });

  it('sees one config directory through two targets', async () => {
    declare('old', { runtime: 'langgraph' });
    await mkdir(at('old', 'opt', 'configs'), { recursive: true });
    await pass();
    expect(await installed('old', 'opt', 'configs')).toEqual(['a']);
    declare('old/opt/configs', { runtime: 'claude-code' });
    expect(await pass()).toBeUndefined();
    expect(await installed('old', 'opt', 'configs')).toEqual(['a']);
    expect(await condition('LeftBehind')).toBeUndefined();
  });

  it('leaves an old place alone that another workspace has now', async () => {
    declare('new');
    declare('old', { plugins: [] }, 'bob');
    await workshop.claims.introduce(workspaceKey('default', 'bob'), signal());
    expect(await pass()).toBeUndefined();
    expect(await installed('old')).toEqual(['a']);
    expect(await condition('LeftBehind')).toBeUndefined();
  });

  it('shows in a plan what it would take away there', async () => {
    declare('new');
    const preview = await workshop.dryLooks.preview(KEY, 'us', signal());
    expect(preview).toMatchObject({
      former: [{ kind: 'planned', planned: { plan: { entries: [{ action: 'remove', plugin: 'a' }] } } }],
    });
    expect(await installed('old')).toEqual(['a']);
  });

  it('waits for an approval of its own where policy asks for that', async () => {
    const policy = { mode: 'Plan' } as const;
    const approve = async (): Promise<void> => {
      const { planId, held } = await status();
      expect(held?.reason).toBe('AwaitingApproval');
      await world.ports.store.annotate(KEY, { [APPROVED_PLAN_ANNOTATION]: planId ?? '' }, signal());
      await pass();
    };
    declare('new', { policy });
    await pass();
    await approve();
    expect([await installed('new'), await installed('old')]).toEqual([['a'], ['a']]);
    await approve();
    expect([await installed('new'), await installed('old')]).toEqual([['a'], []]);
    expect(await condition('Ready')).toMatch(/^True/);
  });

  it('waits for one approval after the other where a deletion has two places to clean', async () => {
    declare('new', { policy: { mode: 'Plan' } });
    await pass();
    await world.ports.store.annotate(KEY, { [APPROVED_PLAN_ANNOTATION]: (await status()).planId ?? '' }, signal());
    await pass();
    world.backend.remove(KEY);
    const approveWhatWaits = async (): Promise<void> => {
      await passAfresh();
      const { planId = '', held } = await status();
      expect(held?.message, 'what is said to wait is what can be agreed to').toContain(planId);
      await world.ports.store.annotate(KEY, { [APPROVED_PLAN_ANNOTATION]: planId }, signal());
      await passAfresh();
    };
    await approveWhatWaits();
    expect([await installed('new'), await installed('old')]).toEqual([[], ['a']]);
    await approveWhatWaits();
    expect([await installed('new'), await installed('old')]).toEqual([[], []]);
    expect(world.backend.rows.has(KEY)).toBe(false);
  });

  it('keeps the old place with prune Off, in mode Observe and while the fleet is paused, and says so', async () => {
    declare('new', { policy: { prune: 'Off' } });
    await pass();
    expect(await condition('LeftBehind')).toMatch(/^True PruneOff/);
    await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, { since: '', by: 'me', reason: '' }, signal());
    declare('new');
    await pass();
    expect(await condition('LeftBehind')).toMatch(/^True Paused/);
    declare('new', { policy: { mode: 'Observe' } });
    await pass();
    expect(await condition('LeftBehind')).toMatch(/^True ObserveOnly/);
    expect(await installed('old')).toEqual(['a']);
    const pause = await world.ports.state.get(PAUSE_KEY, signal());
    await world.ports.state.remove(PAUSE_KEY, pause?.version ?? '', signal());
    declare('new', { policy: { deletion: 'Orphan' } });
    await pass();
    expect(await installed('old')).toEqual([]);
  });

  it('counts a move for no loss, and what is dropped with it for one', async () => {
    const plugins = (names: string) => names.split('').map((name) => ({ name, source: name }));
    declare('old', { plugins: plugins('abcde') });
    await pass();
    declare('new', { plugins: plugins('abcde') });
    await pass();
    expect([(await installed('new')).length, (await installed('old')).length]).toEqual([5, 0]);
    declare('third', { plugins: plugins('a') });
    await pass();
    expect([(await installed('third')).length, (await installed('new')).length]).toEqual([1, 5]);
    expect(await condition('Ready')).toMatch(/^False PruneHeld/);
  });

  describe('with a whole fleet, by an edit without its WHERE', () => {
    const FLEET = ['w1', 'w2', 'w3', 'w4', 'w5'];
    const keyOf = (name: string): WorkspaceKey => workspaceKey('default', name);
    const move = async (runtime: string): Promise<void> => {
      for (const name of FLEET) declare(name, { runtime }, name);
      for (const name of FLEET) expect(await pass(keyOf(name))).toBeUndefined();
    };
    const standing = async (...place: readonly string[]): Promise<readonly string[]> => {
      const found = await Promise.all(FLEET.map(async (name) => [name, await installed(name, ...place)] as const));
      return found.filter(([, plugins]) => plugins.length > 0).map(([name]) => name);
    };
    beforeEach(async () => {
      for (const name of FLEET) await mkdir(at(name, 'opt', 'configs'), { recursive: true });
      await move('claude-code');
      await move('langgraph');
    });

    it('empties no more former places within an hour than the guard of the fleet allows, and says so', async () => {
      expect(await standing('opt', 'configs')).toEqual(FLEET);
      expect(await standing()).toEqual(['w4', 'w5']);
      const { conditions, held, planId } = await status(keyOf('w4'));
      expect(findCondition(conditions, 'Ready')).toMatchObject({ status: 'False', reason: 'PruneHeld' });
      expect(findCondition(conditions, 'LeftBehind')).toMatchObject({ status: 'True', reason: 'PruneHeld' });
      expect(held?.message).toMatch(/guards\.emptiedPerHour.* plugset approve .*\(directory .*w4/);
      await hourIsOver();
      await pass(keyOf('w4'));
      expect(await standing()).toEqual(['w4', 'w5']);
      await world.ports.store.annotate(keyOf('w4'), { [APPROVED_PLAN_ANNOTATION]: planId ?? '' }, signal());
      await pass(keyOf('w4'));
      expect(await standing()).toEqual(['w5']);
    });

    it('lets the new place go when the edit is undone after the hour', async () => {
      await hourIsOver();
      declare('w4', {}, 'w4');
      await pass(keyOf('w4'));
      expect([await standing(), await standing('opt', 'configs')]).toEqual([
        ['w4', 'w5'],
        ['w1', 'w2', 'w3', 'w5'],
      ]);
      expect(findCondition((await status(keyOf('w4'))).conditions, 'Ready')).toMatchObject({ status: 'True' });
    });

    it('empties them where policy.allowEmpty says so', async () => {
      for (const name of ['w4', 'w5']) {
        declare(name, { runtime: 'langgraph', policy: { allowEmpty: true } }, name);
        await pass(keyOf(name));
      }
      expect(await standing()).toEqual([]);
    });

    async function hourIsOver(): Promise<void> {
      for (const key of [EMPTIED_KEY, emptiedKey('default')]) {
        const document = await world.ports.state.get(key, signal());
        await world.ports.state.remove(key, document?.version ?? '', signal());
      }
    }
  });

  it('is clean everywhere before it is forgotten', async () => {
    unreachable.add(at('old'));
    declare('new');
    await pass();
    world.backend.remove(KEY);
    expect(await passAfresh()).toMatchObject({ reason: 'Unreachable' });
    unreachable.clear();
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('new'), await installed('old')]).toEqual([[], []]);
    expect(world.backend.rows.has(KEY)).toBe(false);
    expect(await remembered()).toBeUndefined();
  });

  it.each(['new', 'old'] as const)(
    'is not forgotten with an interrupted change in %s while the fleet is paused',
    async (interrupted) => {
      unreachable.add(at('old'));
      declare('new', { plugins: [] });
      await pass();
      unreachable.clear();
      for (const trace of ['plugins', '.plugset']) await rm(at('old', trace), { recursive: true });
      const journal = at(interrupted, '.plugset/journal.d');
      await mkdir(journal, { recursive: true });
      await writeFile(join(journal, 'interrupted'), 'put a\n');
      const pause = { since: '', by: 'me', reason: '' };
      const version = await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, signal());
      world.backend.remove(KEY);
      expect(await passAfresh()).toMatchObject({ reason: 'Paused', class: 'waiting' });
      expect(world.backend.rows.has(KEY)).toBe(true);
      await world.ports.state.remove(PAUSE_KEY, version ?? '', signal());
      expect(await passAfresh()).toBeUndefined();
      expect(world.backend.rows.has(KEY)).toBe(false);
      expect(await readdir(journal).catch(() => [])).toEqual([]);
    },
  );

  it('reads no more from the store than before while nothing moves', async () => {
    await pass();
    reads.length = 0;
    for (let again = 0; again < 3; again++) await pass();
    declare('old', { plugins: [{ name: 'b', source: 'b' }] });
    await passAfresh();
    const readPlaces = (): number => reads.filter((key) => key === stateKey('places', KEY)).length;
    expect(readPlaces(), 'not for an edit that every pass has seen').toBe(0);
    declare('new');
    declare('old');
    await passAfresh();
    expect(readPlaces(), 'once where an edit between may have gone unseen').toBe(1);
  });

  it('takes a place away that no status was written from, when its edit is undone', async () => {
    declare('new');
    const store = Object.assign(Object.create(world.ports.store) as typeof world.ports.store, {
      get: (...args: Parameters<typeof world.ports.store.get>) => world.ports.store.get(...args),
      writeStatus: () => Promise.reject(transient('StoreUnavailable', 'killed')),
    });
    unreachable.add(at('old'));
    expect(await passAfresh({ store })).toMatchObject({ reason: 'StoreUnavailable' });
    unreachable.clear();
    expect(await installed('new')).toEqual(['a']);
    declare('old');
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('old'), await installed('new')]).toEqual([['a'], []]);
  });

  it('leaves the old place as it is where the new one lacks what policy says to leave away', async () => {
    await cp(at('old'), at('new'), { recursive: true });
    await rm(at('new', 'plugins', 'a'), { recursive: true });
    declare('new', { policy: { drift: 'Warn' } });
    expect(await pass()).toBeUndefined();
    expect(await installed('old')).toEqual(['a']);
    declare('new');
    expect(await pass()).toBeUndefined();
    expect([await installed('new'), await installed('old')]).toEqual([['a'], []]);
  });

  it('is Ready whatever fence somebody forges in the place that it has left', async () => {
    await writeFile(at('old', '.plugset', 'fence'), 'us 999999999999999 1\n');
    declare('new');
    expect(await pass()).toBeUndefined();
    expect(await installed('new')).toEqual(['a']);
    expect(await condition('Ready')).toMatch(/^True Succeeded/);
    expect(await condition('LeftBehind')).toMatch(/^True StaleFence/);
  });

  it('remembers nothing of another life of its name', async () => {
    world.backend.rows.delete(KEY);
    expect(await passAfresh()).toBeUndefined();
    expect(await remembered(), 'whoever took it out meant to leave its plugins').toBeUndefined();
    declare('old');
    await pass();
    world.backend.rows.delete(KEY);
    // Nobody was there to see it go.
    world.backend.declare(manifest({ external: {} }, {}));
    expect(await passAfresh()).toBeUndefined();
    world.backend.rows.delete(KEY);
    declare('new');
    expect(await passAfresh()).toBeUndefined();
    expect([await installed('new'), await installed('old')]).toEqual([['a'], ['a']]);
  });

  describe('of another kind', () => {
    const kinds: readonly (readonly [string, TargetSpec])[] = [
      ['docker', { docker: { container: 'ws-alice' } }],
      ['external', { external: {} }],
    ];
    it.each(kinds)('refuses %s by name, and goes on when the old kind is declared again', async (kind, target) => {
      world.backend.declare(manifest(target, {}));
      expect(await pass()).toMatchObject({ reason: 'TargetKindChanged', class: 'terminal' });
      expect(await condition('Stalled')).toMatch(`had a directory target`);
      expect(await condition('Stalled')).toContain(`kind ${kind}`);
      expect(await passAfresh()).toMatchObject({ reason: 'TargetKindChanged' });
      expect(await installed('old')).toEqual(['a']);
      declare('old');
      expect(await pass()).toBeUndefined();
      expect(await condition('Ready')).toMatch(/^True/);
    });

    it.each(kinds)('is cleaned where its plugins are when it is deleted as %s', async (_, target) => {
      world.backend.declare(manifest(target, {}));
      await pass();
      world.backend.remove(KEY);
      expect(await passAfresh()).toBeUndefined();
      expect(await installed('old')).toEqual([]);
      declare('new');
      expect(await pass()).toBeUndefined();
    });
  });
});
