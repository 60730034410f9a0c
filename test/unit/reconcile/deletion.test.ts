import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import { PAUSE_KEY } from '../../../src/domain/fleet.ts';
import { classifyError, terminal, transient, unknownOutcome, waiting } from '../../../src/domain/errors.ts';
import type { ReconcileError } from '../../../src/domain/errors.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { Transition } from '../../../src/domain/transition.ts';
import { API_VERSION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import { createWorkshop, type Workshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';
import { UnreliableTargets } from '../../support/unreliable-targets.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  giveUpDeletionAfterMs: HOUR,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};

describe('the deletion of a workspace', () => {
  let world: SmallWorld;
  let workshop: Workshop;
  let targets: UnreliableTargets;
  let told: Transition[];

  beforeEach(async () => {
    world = await createSmallWorld();
    targets = new UnreliableTargets(world.ports.providers[0]!);
    told = [];
    start();
    for (const name of ['a', 'b']) await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': `${name} 1\n` });
    for (const name of ['alice', 'elsewhere']) await mkdir(join(world.dirs.root, name));
  });
  afterEach(async () => {
    workshop.revisions.stop();
    await world.close();
  });

  /** As another process would go on: it knows what the store and the documents say. */
  const start = (limits: Partial<typeof LIMITS> = {}): void => {
    workshop?.revisions.stop();
    const notifier = { notify: (transition: Transition): void => void told.push(transition) };
    const ports = { ...world.ports, providers: [targets], notifier };
    workshop = createWorkshop(ports, { ...LIMITS, ...limits }, () => {});
  };
  const declare = (spec: Partial<WorkspaceManifest['spec']> = {}, home = 'alice'): void =>
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: join(world.dirs.root, home) } },
        plugins: [
          { name: 'a', source: 'a' },
          { name: 'b', source: 'b' },
        ],
        ...spec,
      },
    });
  const signal = (): AbortSignal => new AbortController().signal;
  const pass = async (): Promise<ReconcileError | undefined> => {
    try {
      return (await workshop.reconciler.reconcile(KEY, FENCE, signal())).failure;
    } catch (error) {
      expect(classifyError(error)).toBe(error);
      return error as ReconcileError;
    }
  };
  /** Takes it out, so long ago. */
  const remove = (agoMs = 0): void => {
    world.backend.remove(KEY);
    const row = world.backend.rows.get(KEY);
    if (row !== undefined) row.declaredAtMs -= agoMs;
  };
  const isGone = (): boolean => !world.backend.rows.has(KEY);
  const ready = (): string => {
    const condition = findCondition(world.backend.rows.get(KEY)?.status.conditions ?? [], 'Ready');
    return `${condition?.status} ${condition?.reason} ${condition?.message}`;
  };
  const installed = async (home = 'alice'): Promise<readonly string[]> =>
    (await readdir(join(world.dirs.root, home, 'plugins')).catch((): string[] => [])).toSorted();
  const refused = transient('Unreachable', 'nobody answers');

  it('tells that it has ended', async () => {
    declare();
    await pass();
    remove();
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(await installed()).toEqual([]);
    expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'Succeeded' } });
  });

  it.each([
    refused,
    waiting('WorkspaceNotRunning', 'it does not run', 5000),
    waiting('PodPending', 'no node has room', 5000),
    terminal('HostKeyMismatch', 'it shows another key'),
    terminal('TargetNotAllowed', 'not any more'),
    transient('ToolMissing', 'no tar there'),
    unknownOutcome('cut'),
  ])('waits while the target cannot be reached ($reason), and says for how long', async (failure) => {
    declare();
    await pass();
    targets.failures.set('alice', failure);
    remove();
    const until = new Date((world.backend.rows.get(KEY)?.declaredAtMs ?? 0) + HOUR).toISOString();
    const error = await pass();
    expect(error).toMatchObject({ reason: failure.reason, class: failure.class === 'unknown' ? 'unknown' : 'waiting' });
    expect(ready()).toMatch(`${failure.reason} waits until ${until} for its target`);
    expect(error?.retryAfterMs).toBe(failure.retryAfterMs ?? 60_000);
    const written = world.backend.rows.get(KEY)?.status;
    await pass();
    expect(world.backend.rows.get(KEY)?.status, 'says the same as long as nothing changes').toEqual(written);

    targets.failures.clear();
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(await installed()).toEqual([]);
    expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'Succeeded' } });
  });

  it('looks once more when the time is over, and not later', async () => {
    declare();
    await pass();
    targets.failures.set('alice', refused);
    remove(HOUR - 20_000);
    const { retryAfterMs = 0 } = (await pass()) ?? {};
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(retryAfterMs).toBeLessThanOrEqual(20_000);
  });

  it.each([refused, waiting('WorkspaceNotRunning', 'it does not run', 5000), unknownOutcome('cut')])(
    'ends when the time is over, also for who comes then only, and says what was left behind ($reason)',
    async (failure) => {
      declare();
      await pass();
      targets.failures.set('alice', failure);
      remove(HOUR);
      start();
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
      expect(await installed()).toEqual(['a', 'b']);
      const message = `left behind in directory ${join(world.dirs.root, 'alice')}: a, b; ${failure.reason}: ${failure.message}`;
      expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'DeletedUnclean' }, message });
      expect(world.logger.lines.filter(({ level }) => level === 'warn')).toContainEqual(
        expect.objectContaining({ fields: expect.objectContaining({ reason: 'DeletedUnclean', message }) }),
      );
      // Nothing remembers it: under its name anything may be declared.
      declare({}, 'elsewhere');
      expect(await pass()).toBeUndefined();
    },
  );

  it('takes away what it can when the time is over', async () => {
    declare();
    await pass();
    remove(2 * HOUR);
    expect(await pass()).toBeUndefined();
    expect(await installed()).toEqual([]);
    expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'Succeeded' } });
  });

  it('waits for no target that does not exist, and says so', async () => {
    declare();
    await pass();
    await rm(join(world.dirs.root, 'alice'), { recursive: true });
    remove();
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(told.at(-1)).toMatchObject({
      to: { standing: 'Deleted', reason: 'Succeeded' },
      message: expect.stringContaining('its target does not exist'),
    });
  });

  describe('of a target whose files may come back with another one', () => {
    const absent = waiting('WorkspaceNotFound', 'there is no pod', 5000);

    beforeEach(() => {
      targets.keepsFiles = true;
      declare();
    });

    it('cleans the one that takes its place', async () => {
      await pass();
      targets.failures.set('alice', absent);
      remove();
      expect(await pass()).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound', retryAfterMs: 5000 });
      expect(ready()).toMatch(/WorkspaceNotFound waits until .* there is no pod/);
      targets.failures.clear();
      start();
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
      expect(await installed()).toEqual([]);
      expect(told.at(-1)).toMatchObject({ to: { reason: 'Succeeded' } });
    });

    it('ends when the time is over, and says what was left behind', async () => {
      await pass();
      targets.failures.set('alice', absent);
      remove(HOUR);
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
      expect(told.at(-1)).toMatchObject({
        to: { reason: 'DeletedUnclean' },
        message: expect.stringMatching(/^left behind in .*: a, b; WorkspaceNotFound: there is no pod$/),
      });
    });

    it('ends at once where nothing was ever put there', async () => {
      targets.failures.set('alice', absent);
      await pass();
      remove();
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
    });

    it.each([
      ['though nothing was edited', () => undefined],
      ['after an edit', () => declare({ plugins: [{ name: 'a', source: 'a' }] })],
    ])('goes by the target that was there last, %s', async (_, edit) => {
      await pass();
      targets.keepsFiles = false;
      edit();
      await pass();
      targets.failures.set('alice', absent);
      remove();
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
    });
  });

  it('waits for no target on which nothing was ever put', async () => {
    targets.failures.set('alice', refused);
    declare();
    expect((await pass())?.reason).toBe('Unreachable');
    remove();
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'Succeeded' } });
  });

  it.each([transient('LockHeld', 'somebody is at it'), terminal('UnsafePath', 'a link stands there')])(
    'is not given up where the target answers ($reason)',
    async (failure) => {
      declare();
      await pass();
      targets.failures.set('alice', failure);
      remove(2 * HOUR);
      expect(await pass()).toBe(failure);
      expect(isGone()).toBe(false);
    },
  );

  it.each([
    ['says that a turn of the far future has written there', 'us 999999999999999 1\n', 'StaleFence'],
    ['cannot be read', 'mine\n', 'ForeignOwner'],
  ])('waits for its time and no longer for a target whose fence %s', async (_what, fence, reason) => {
    declare();
    await pass();
    await writeFile(join(world.dirs.root, 'alice', '.plugset', 'fence'), fence);
    remove();
    expect(await pass()).toMatchObject({ class: 'waiting', reason, retryAfterMs: 60_000 });
    expect(ready()).toMatch(`${reason} waits until `);
    world.backend.rows.get(KEY)!.declaredAtMs -= HOUR;
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(await installed(), 'nobody writes there').toEqual(['a', 'b']);
    expect(told.at(-1)).toMatchObject({
      to: { reason: 'DeletedUnclean' },
      message: expect.stringMatching(new RegExp(`^left behind in directory .*: a, b; ${reason}: `)),
    });
  });

  it('says so where another controller manages what it leaves there', async () => {
    declare();
    await pass();
    await writeFile(join(world.dirs.root, 'alice', '.plugset', 'fence'), 'them 1 1\n');
    remove();
    expect(await pass()).toBeUndefined();
    expect(await installed()).toEqual(['a', 'b']);
    expect(told.at(-1)?.message).toMatch(/nothing was taken away: another controller manages its target .*them/);
  });

  describe('with a declaration that cannot be used', () => {
    it('says what stays, and where', async () => {
      declare();
      await pass();
      remove();
      world.backend.malform(KEY, 'spec.runtime: unknown');
      expect(await pass()).toBeUndefined();
      expect(isGone()).toBe(true);
      const place = `directory ${join(world.dirs.root, 'alice')}`;
      expect(told.at(-1)).toMatchObject({
        to: { reason: 'DeletedUnclean' },
        message: `left behind in ${place}: a, b; InvalidSpec: its declaration cannot be used: spec.runtime: unknown`,
      });
    });

    it('says nothing of the kind where nothing was ever put', async () => {
      declare();
      remove();
      world.backend.malform(KEY);
      expect(await pass()).toBeUndefined();
      expect(told.at(-1)).toMatchObject({ to: { reason: 'Succeeded' } });
    });
  });

  const later = (ms: number): void => {
    const row = world.backend.rows.get(KEY)!;
    row.declaredAtMs -= ms;
    const { pruneHeldSince } = row.status;
    if (pruneHeldSince === undefined) return;
    row.status = { ...row.status, pruneHeldSince: new Date(Date.parse(pruneHeldSince) - ms).toISOString() };
  };

  it('is given up where a guard holds it back and nobody decides; then what is installed stays', async () => {
    start({ guards: { ...DEFAULT_GUARDS, emptiedPerHour: 0 } });
    declare();
    await pass();
    // As by a controller that was away for longer than anybody is waited for.
    remove(2 * HOUR);
    await pass();
    expect(ready()).toMatch(
      /^False PruneHeld .*plugset approve .*; 60 min after it was held it ends by itself, and what is/,
    );
    const written = world.backend.rows.get(KEY)?.status;
    await pass();
    expect(world.backend.rows.get(KEY)?.status, 'says the same as long as nothing changes').toEqual(written);
    later(HOUR - 60_000);
    await pass();
    expect(isGone()).toBe(false);
    later(60_000);
    await pass();
    expect(isGone()).toBe(true);
    expect(await installed()).toEqual(['a', 'b']);
    expect(told.at(-1)).toMatchObject({ to: { standing: 'Deleted', reason: 'DeletedUnclean' } });
    expect(told.at(-1)?.message).toMatch(/^left behind in .*alice: a, b; PruneHeld: .*guards\.emptiedPerHour/);
  });

  it('is given up where its plan waits for an approval that nobody gives', async () => {
    declare();
    await pass();
    declare({ policy: { mode: 'Plan' } });
    remove(HOUR - 60_000);
    await pass();
    expect(ready()).toMatch('False AwaitingApproval');
    expect(isGone()).toBe(false);
    later(60_000);
    await pass();
    expect(isGone()).toBe(true);
    expect(await installed()).toEqual(['a', 'b']);
  });

  it('is not given up while the fleet is paused', async () => {
    declare();
    await pass();
    const pause = { since: '2026-11-23T00:00:00Z', by: 'ann', reason: '' };
    const version = await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, signal());
    remove(1000 * HOUR);
    await pass();
    expect(ready()).toMatch('False Paused');
    expect(isGone()).toBe(false);
    await world.ports.state.remove(PAUSE_KEY, version!, signal());
    await pass();
    expect(isGone()).toBe(true);
    expect(await installed()).toEqual([]);
  });

  it('is given up in former places too, and cleans the others meanwhile', async () => {
    declare();
    await pass();
    targets.failures.set('alice', refused);
    declare({}, 'elsewhere');
    expect(await pass()).toBeUndefined();
    expect(await installed('elsewhere')).toEqual(['a', 'b']);
    remove();
    expect((await pass())?.message).toMatch(/^waits until .*: nobody answers$/);
    expect(await installed('elsewhere')).toEqual([]);
    targets.failures.set('elsewhere', refused);
    const row = world.backend.rows.get(KEY)!;
    row.declaredAtMs -= HOUR;
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    const places = ['elsewhere', 'alice'].map((name) => `directory ${join(world.dirs.root, name)}`);
    expect(told.at(-1)?.message).toMatch(`left behind in ${places.join(', in ')}: `);
  });

  it('is given up where a place answers and refuses, once it has refused again when the time is over', async () => {
    declare();
    await pass();
    declare({}, 'elsewhere');
    targets.failures.set('alice', terminal('UnsafePath', 'a link stands there'));
    await pass();
    targets.failures.set('elsewhere', terminal('InvalidSpec', 'it has no such container'));
    remove(2 * HOUR);
    expect((await pass())?.reason, 'nobody has seen that before').toBe('InvalidSpec');
    expect(isGone()).toBe(false);
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(told.at(-1)?.message).toMatch(/^left behind in .*elsewhere, in .*alice: .*InvalidSpec: .*UnsafePath: /);
  });

  it('ends though each of its passes hangs until its own time is over', async () => {
    declare();
    await pass();
    const hang = new AbortController();
    targets.failures.set('alice', transient('Unreachable', 'never thrown'));
    targets.locate = () => {
      const ended = transient('PassTimeout', 'the pass did not end within 900 s');
      hang.abort(ended);
      return Promise.reject(ended);
    };
    remove(HOUR - 1000);
    await expect(workshop.reconciler.reconcile(KEY, FENCE, hang.signal)).rejects.toMatchObject({
      reason: 'PassTimeout',
    });
    expect(ready()).toMatch('Unknown PassTimeout');
    world.backend.rows.get(KEY)!.declaredAtMs -= 1000;
    expect(await pass()).toBeUndefined();
    expect(isGone()).toBe(true);
    expect(told.at(-1)).toMatchObject({ to: { reason: 'DeletedUnclean' } });
  });

  it('waits for ever where nobody has said for how long', async () => {
    start({ giveUpDeletionAfterMs: Infinity });
    declare();
    await pass();
    targets.failures.set('alice', refused);
    remove(1000 * HOUR);
    expect(await pass()).toBe(refused);
  });
});
