import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import { classifyError, transient, waiting, type ReconcileError } from '../../../src/domain/errors.ts';
import { workspaceKey, type PluginName } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION, API_VERSION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import { createWorkshop, type Workshop } from '../../../src/workshop.ts';
import { ClaimingMemoryStore } from '../../support/memory-store.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 1,
  laneLimit: 1,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
  firstPassPerSecond: 1000,
  graceMs: 1000,
};

describe('one pass over one workspace', () => {
  let world: SmallWorld;
  let workshop: Workshop;
  let released: string[];
  let home: string;

  beforeEach(async () => {
    world = await createSmallWorld();
    released = [];
    workshop = createWorkshop(world.ports, LIMITS, (keys) => void released.push(...keys));
    home = join(world.dirs.root, 'alice');
    await mkdir(home);
    for (const name of ['a', 'b']) await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': `${name} 1\n` });
  });
  afterEach(async () => {
    workshop.revisions.stop();
    await world.close();
  });

  const declare = (spec: Partial<WorkspaceManifest['spec']> = {}, name = 'alice'): void =>
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home } },
        plugins: [{ name: 'a', source: 'a' }],
        ...spec,
      },
    });
  const signal = (): AbortSignal => new AbortController().signal;
  const pass = async (key = KEY): Promise<ReconcileError | undefined> => {
    try {
      return (await workshop.reconciler.reconcile(key, FENCE, signal())).failure;
    } catch (error) {
      expect(classifyError(error)).toBe(error);
      return error as ReconcileError;
    }
  };
  const status = async (key = KEY): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(key, signal());
    if (loaded.kind === 'absent') throw new Error('absent');
    return loaded.status;
  };
  const ready = async (): Promise<string> => {
    const condition = findCondition((await status()).conditions, 'Ready');
    return `${condition?.status} ${condition?.reason}`;
  };
  const installed = async (): Promise<readonly string[]> =>
    (await readdir(join(home, 'plugins')).catch((): string[] => [])).toSorted();
  const looks = (tier: string): number => world.metrics.argsOf('looked').filter(([one]) => one === tier).length;

  it('times its phases and its fetches, and counts what is declared', async () => {
    declare();
    await pass();
    const phases = (): readonly unknown[] => world.metrics.argsOf('phase').map(([phase]) => phase);
    const first = ['load', 'locate', 'resolve', 'probe', 'observe', 'plan', 'converge', 'report'];
    expect(phases()).toEqual(first);
    expect(world.metrics.argsOf('fetched')).toEqual([['local', 'ok', expect.any(Number)]]);
    expect(world.metrics.argsOf('declared')).toEqual([[KEY, [{ scheme: 'local', tracking: 'moving' }]]]);
    declare({ suspend: true });
    await pass();
    expect(phases().slice(first.length)).toEqual(['load', 'report']);
    expect(world.metrics.argsOf('declared').at(-1)).toEqual([KEY, []]);
  });

  it('installs, says so once, and looks no deeper while the probe does not move', async () => {
    declare();
    expect(await pass()).toBeUndefined();
    expect(await ready()).toBe('True Succeeded');
    await pass();
    const deep = looks('deep');
    const written = await status();
    for (let again = 0; again < 5; again++) await pass();
    expect(looks('deep')).toBe(deep);
    expect(looks('probe')).toBe(5);
    expect(await status()).toEqual(written);
    expect(world.metrics.argsOf('converged')).toHaveLength(1);
  });

  it.each([
    ['no lease can outdo', '999999999999999', /epoch 999999999999999 is newer\. .* remove that file there\.$/],
    ['a newer lease would have', '2', /epoch 2 is newer\. .* writes nothing there\.$/],
  ])('says what to do about a fence on the target that %s, and goes on when it is gone', async (_what, epoch, said) => {
    declare();
    await pass();
    await writeFile(join(home, '.plugset', 'fence'), `us ${epoch} 1\n`);
    declare({ plugins: [{ name: 'b', source: 'b' }] });
    // A look that stood may have been from before.
    await pass();
    expect(await pass()).toMatchObject({ class: 'waiting', reason: 'StaleFence' });
    expect(await ready()).toBe('False StaleFence');
    expect(findCondition((await status()).conditions, 'Ready')?.message).toMatch(said);
    expect(await installed()).toEqual(['a']);
    await rm(join(home, '.plugset', 'fence'));
    expect(await pass()).toBeUndefined();
    expect(await installed()).toEqual(['b']);
  });

  it('plans an edit from a look that stands, and finds what moved no probe by the look that ends the change', async () => {
    declare();
    await pass();
    await pass();
    const deep = looks('deep');
    declare({
      plugins: [
        { name: 'a', source: 'a' },
        { name: 'b', source: 'b' },
      ],
    });
    expect(await pass()).toBeUndefined();
    expect(looks('deep')).toBe(deep);
    expect(await installed()).toEqual(['a', 'b']);

    await pass();
    await writeFile(join(home, 'plugins/a/SKILL.md'), 'edited behind the probe');
    declare();
    expect((await pass())?.reason).toBe('TargetMoved');
    expect(await installed()).toEqual(['a']);
    expect(await pass()).toBeUndefined();
    expect(await readFile(join(home, 'plugins/a/SKILL.md'), 'utf8')).toBe('a 1\n');
  });

  describe('where deletions are claimed', () => {
    let claiming: ClaimingMemoryStore;

    beforeEach(() => {
      claiming = new ClaimingMemoryStore(world.backend);
      workshop.revisions.stop();
      workshop = createWorkshop({ ...world.ports, store: claiming }, LIMITS, () => {});
    });
    const isClaimed = (): boolean | undefined => world.backend.rows.get(KEY)?.claimed;

    it('claims a workspace before anything is put there, be it only adopted, and has it taken away', async () => {
      declare();
      claiming.refusal = transient('StoreUnavailable', 'says the test');
      expect((await pass())?.reason).toBe('StoreUnavailable');
      expect(await readdir(home)).toEqual([]);
      claiming.refusal = undefined;
      expect(await pass()).toBeUndefined();
      expect(isClaimed()).toBe(true);
      expect(world.backend.remove(KEY)).toBe(true);
      await pass();
      expect(await installed()).toEqual([]);
      expect(world.backend.rows.has(KEY)).toBe(false);
    });

    it('puts nothing there once it is being deleted', async () => {
      declare();
      claiming.refusal = waiting('Deleting', 'it is gone', 1000);
      expect((await pass())?.reason).toBe('Deleting');
      expect(await readdir(home)).toEqual([]);
    });

    it.each([
      ['is only looked at', { policy: { mode: 'Observe' } }],
      ['stays as it is', { policy: { deletion: 'Orphan' } }],
      ['is suspended', { suspend: true }],
      ['pulls for itself', { target: { external: {} } }],
    ] as const)('claims none that %s', async (_, spec) => {
      declare(spec);
      expect(await pass()).toBeUndefined();
      expect(isClaimed()).toBe(false);
      world.backend.remove(KEY);
      expect(await pass()).toBeUndefined();
    });

    it('claims nothing for a command that only looks', async () => {
      declare();
      await workshop.dryLooks.preview(KEY, undefined, signal());
      expect(isClaimed()).toBe(false);
    });
  });

  it('a suspended workspace is neither looked at nor changed', async () => {
    declare({ suspend: true });
    await pass();
    expect(await ready()).toBe('Unknown Suspended');
    expect(await installed()).toEqual([]);
    expect(looks('deep')).toBe(0);
  });

  it('an external workspace is never looked at: it pulls', async () => {
    declare({ target: { external: {} } });
    await pass();
    expect(await ready()).toBe('Unknown Pull');
    expect(looks('deep')).toBe(0);
  });

  it('an unknown runtime is a condition, not a guess', async () => {
    declare({ runtime: 'emacs' });
    expect((await pass())?.reason).toBe('UnknownRuntime');
    expect(await ready()).toBe('False UnknownRuntime');
    expect(await installed()).toEqual([]);
  });

  it('a declaration that cannot be read is reported and changes nothing', async () => {
    declare();
    await pass();
    world.backend.malform(KEY, 'alice.yaml:3: unknown key');
    expect((await pass())?.reason).toBe('InvalidSpec');
    expect(await ready()).toBe('False InvalidSpec');
    expect(await installed()).toEqual(['a']);
  });

  it('lets a deleted declaration go that cannot be read, since nobody can say where its plugins would be', async () => {
    declare();
    world.backend.malform(KEY);
    const row = world.backend.rows.get(KEY);
    if (row !== undefined) row.deleting = true;
    expect(await pass()).toBeUndefined();
    expect(await world.ports.store.list(signal())).toEqual([]);
  });

  it('refuses content that is not what the declaration pins, and leaves what is there', async () => {
    declare({
      plugins: [
        { name: 'a', source: 'a', digest: `sha256:${'0'.repeat(64)}` },
        { name: 'b', source: 'b' },
      ],
    });
    expect((await pass())?.reason).toBe('DigestMismatch');
    expect(await installed()).toEqual(['b']);
    expect((await status()).summary).toBe('1/2');
  });

  it('takes an equal foreign directory over without moving a byte, and leaves another one alone', async () => {
    await writePlugin(join(home, 'plugins/a'), { 'SKILL.md': 'a 1\n', 'notes.txt': 'mine' });
    await writePlugin(join(home, 'plugins/b'), { 'SKILL.md': 'another b\n' });
    const before = await stat(join(home, 'plugins/a/SKILL.md'));
    declare({
      plugins: [
        { name: 'a', source: 'a' },
        { name: 'b', source: 'b' },
      ],
    });
    expect((await pass())?.reason).toBe('NameTaken');
    expect((await stat(join(home, 'plugins/a/SKILL.md'))).ino).toBe(before.ino);
    const rows = (await status()).plugins.map((row) => `${row.name} ${row.state} ${row.managed}`);
    expect(rows.toSorted()).toEqual(['a Installed true', 'b Failed false']);
    expect(await readFile(join(home, 'plugins/b/SKILL.md'), 'utf8')).toBe('another b\n');
    expect(await readFile(join(home, 'plugins/a/notes.txt'), 'utf8')).toBe('mine');
  });

  it.each([
    { drift: 'Enforce', content: 'a 1\n', drifted: false },
    { drift: 'Warn', content: 'edited', drifted: true },
    { drift: 'Off', content: 'edited', drifted: false },
  ] as const)('drift: $drift', async ({ drift, content, drifted }) => {
    declare({ policy: { drift } });
    await pass();
    await writeFile(join(home, 'plugins/a/SKILL.md'), 'edited');
    await pass();
    expect(await readFile(join(home, 'plugins/a/SKILL.md'), 'utf8')).toBe(content);
    expect(findCondition((await status()).conditions, 'Drifted') !== undefined).toBe(drifted);
    expect(await ready()).toBe(drifted ? 'True Drifted' : 'True Succeeded');
    const message = findCondition((await status()).conditions, 'Ready')?.message;
    expect(message, 'counts as the summary does').toMatch(
      drifted ? /^0 of 1 .*; a: changed on the target: SKILL\.md; left/ : /^1 of 1/,
    );
    expect((await status()).summary).toBe(drifted ? '0/1' : '1/1');
  });

  it.each([
    { prune: 'Off', left: ['a', 'b', 'mine'] },
    { prune: 'Managed', left: ['a', 'mine'] },
    { prune: 'All', left: ['a'] },
  ] as const)('prune: $prune', async ({ prune, left }) => {
    declare({
      plugins: [
        { name: 'a', source: 'a' },
        { name: 'b', source: 'b' },
      ],
    });
    await pass();
    await mkdir(join(home, 'plugins/mine'));
    declare({ policy: { prune } });
    await pass();
    expect(await installed()).toEqual(left);
  });

  it.each([
    { deletion: 'Remove', left: [] },
    { deletion: 'Orphan', left: ['a'] },
  ] as const)('deletion: $deletion', async ({ deletion, left }) => {
    declare({ policy: { deletion } });
    await pass();
    world.backend.remove(KEY);
    await pass();
    expect(await installed()).toEqual(left);
    expect(await world.ports.store.list(signal())).toEqual([]);
  });

  it('a deleted workspace whose target is gone does not wait for it', async () => {
    declare();
    await pass();
    await rm(home, { recursive: true });
    world.backend.remove(KEY);
    await pass();
    expect(await world.ports.store.list(signal())).toEqual([]);
  });

  it('writes nothing to a target that another controller manages', async () => {
    declare();
    await mkdir(join(home, '.plugset'));
    await writeFile(join(home, '.plugset/fence'), 'them 5 5\n');
    expect((await pass())?.reason).toBe('ForeignOwner');
    expect(await ready()).toBe('False ForeignOwner');
    expect((await pass())?.message).toMatch(/plugset takeover default\/alice --from /);
    expect(await installed()).toEqual([]);
  });

  it('of two that claim one target the one its receipts name goes on, and the other is woken when it may', async () => {
    const other = workspaceKey('default', 'bob');
    declare();
    await pass();
    declare({ plugins: [{ name: 'b', source: 'b' }] }, 'bob');
    expect((await pass(other))?.reason).toBe('TargetClaimed');
    await pass();
    expect(await installed()).toEqual(['a']);
    world.backend.remove(KEY);
    await pass();
    expect(released).toContain(other);
    expect(await pass(other)).toBeUndefined();
    expect(await installed()).toEqual(['b']);
  });

  it('deleting one of two takes no tree that only a garbled receipt would give it', async () => {
    const other = workspaceKey('default', 'bob');
    declare({
      plugins: [
        { name: 'a', source: 'a' },
        { name: 'b', source: 'b' },
      ],
    });
    await pass();
    await writeFile(join(home, '.plugset/receipts/a'), 'garbled');
    declare({ plugins: [{ name: 'a', source: 'a' }] }, 'bob');
    world.backend.remove(other);
    await pass(other);
    expect(await installed()).toEqual(['a', 'b']);
  });

  it('changes nothing when it only previews', async () => {
    declare();
    const preview = await workshop.dryLooks.preview(KEY, undefined, signal());
    expect(preview.kind === 'planned' && preview.planned.plan.entries).toMatchObject([
      { action: 'install', plugin: 'a' as PluginName },
    ]);
    expect(await installed()).toEqual([]);
    expect((await status()).conditions).toEqual([]);
  });

  it('tells whom a takeover would take the target from, whoever that is', async () => {
    declare();
    expect(await workshop.dryLooks.owner(KEY, signal())).toMatchObject({ kind: 'looked', installed: [] });
    await pass();
    expect(await workshop.dryLooks.owner(KEY, signal())).toEqual({
      kind: 'looked',
      target: `directory ${home}`,
      authority: FENCE.authority,
      installed: ['a'],
    });
    declare({ suspend: true });
    expect(await workshop.dryLooks.owner(KEY, signal())).toMatchObject({
      kind: 'unseen',
      why: 'spec.suspend is true; nothing is looked at or changed',
    });
  });

  it('previews which files a replacement touches, by the lists on the target and of the source', async () => {
    await writePlugin(join(world.dirs.registry, 'a'), { 'SKILL.md': 'a 1\n', same: 'same', old: 'old' });
    declare();
    await pass();
    await writePlugin(join(world.dirs.registry, 'a'), { 'SKILL.md': 'a 2\n', same: 'same', young: 'young' });
    await rm(join(world.dirs.registry, 'a/old'), { force: true });
    const another = createWorkshop(world.ports, LIMITS, () => undefined);
    const preview = await another.dryLooks.preview(KEY, undefined, signal());
    another.revisions.stop();
    expect(preview.kind === 'planned' && [...preview.files]).toEqual([
      ['a', { added: ['young'], changed: ['SKILL.md'], removed: ['old'] }],
    ]);
  });

  it('a pass that its deadline ends says so in the status, with a deadline of its own for that', async () => {
    declare();
    const stop = new AbortController();
    const running = workshop.reconciler.reconcile(KEY, FENCE, stop.signal);
    stop.abort(transient('PassTimeout', 'the pass did not end within 600 s'));
    await expect(running).rejects.toMatchObject({ reason: 'PassTimeout' });
    expect(await ready()).toBe('Unknown PassTimeout');
    expect(findCondition((await status()).conditions, 'Reconciling')).toMatchObject({ reason: 'ProgressingWithRetry' });
  });

  it('a pass over a declaration that cannot be read echoes that it was asked for', async () => {
    declare();
    world.backend.malform(KEY);
    await world.ports.store.annotate(KEY, { [REQUESTED_AT_ANNOTATION]: 'now' }, signal());
    await pass();
    expect((await status()).lastHandledReconcileAt).toBe('now');
  });

  it('an aborted pass writes no status', async () => {
    declare();
    const stop = new AbortController();
    const running = workshop.reconciler.reconcile(KEY, FENCE, stop.signal);
    stop.abort(new Error('stop'));
    await expect(running).rejects.toMatchObject({ class: 'aborted' });
    expect((await status()).conditions).toEqual([]);
  });
});
