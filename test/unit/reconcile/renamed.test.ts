import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { PAUSE_KEY } from '../../../src/domain/fleet.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import { createWorkshop, type Workshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};
const signal = (): AbortSignal => new AbortController().signal;

/** Where the store has no names that last, a renamed workspace is another one, on a target with receipts of the old name. */
describe('a workspace that was renamed', () => {
  let world: SmallWorld;
  let workshop: Workshop;

  beforeEach(async () => {
    world = await createSmallWorld();
    workshop = createWorkshop(world.ports, LIMITS, () => undefined);
    for (const name of ['old', 'new']) await mkdir(at(name));
    for (const name of ['a', 'b', 'c', 'd'])
      await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': `${name}\n` });
    declare('alice', 'abc');
    await pass('alice');
  });
  afterEach(async () => {
    workshop.revisions.stop();
    await world.close();
  });

  const at = (...path: readonly string[]): string => join(world.dirs.root, ...path);
  const declare = (
    name: string,
    plugins: string,
    policy: WorkspaceManifest['spec']['policy'] = {},
    directory = 'old',
  ): void =>
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: at(directory) } },
        plugins: plugins
          .split('')
          .map((plugin) => ({ name: plugin, source: plugin, ...(plugin === 'd' && { config: { x: 1 } }) })),
        policy,
      },
    });
  const pass = async (name: string, by = workshop): Promise<unknown> => {
    const key = workspaceKey('default', name);
    return by.reconciler.reconcile(key, FENCE, signal()).catch((error: unknown) => error);
  };
  const passAfresh = async (name: string): Promise<unknown> => {
    const fresh = createWorkshop(world.ports, LIMITS, () => undefined);
    return pass(name, fresh).finally(() => fresh.revisions.stop());
  };
  const status = async (name: string): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(workspaceKey('default', name), signal());
    if (loaded.kind === 'absent') throw new Error(`${name} is absent`);
    return loaded.status;
  };
  const rename = async (from: string, to: string, policy?: WorkspaceManifest['spec']['policy']): Promise<void> => {
    world.backend.rows.delete(workspaceKey('default', from));
    await pass(from);
    declare(to, 'abc', policy);
    await pass(to);
  };
  const installed = async (directory = 'old'): Promise<string> =>
    (await readdir(at(directory, 'plugins')).catch((): string[] => [])).toSorted().join('');
  const ownerOf = async (plugin: string): Promise<unknown> =>
    (JSON.parse(await readFile(at('old', '.plugset', 'receipts', plugin), 'utf8')) as { workspace: unknown }).workspace;

  it('has the receipts in its own name, and no byte of the plugins was moved', async () => {
    const { ino, mtimeMs } = await stat(at('old', 'plugins', 'a', 'SKILL.md'));
    await rename('alice', 'alice2');
    expect(await Promise.all(['a', 'b', 'c'].map(ownerOf))).toEqual(Array(3).fill('default/alice2'));
    expect(await stat(at('old', 'plugins', 'a', 'SKILL.md'))).toMatchObject({ ino, mtimeMs });
    expect(await status('alice2')).toMatchObject({ summary: '3/3', corrective: 0, intentional: 3 });
    expect((await status('alice2')).history).toMatchObject([{ summary: expect.stringMatching(/^adopted a /) }]);
    await pass('alice2');
    expect((await status('alice2')).history).toMatchObject([{ times: 1 }]);
  });

  it('has the settings in its own name too, and takes them along when it is deleted', async () => {
    declare('alice', 'abcd');
    await pass('alice');
    world.backend.rows.delete(workspaceKey('default', 'alice'));
    await pass('alice');
    declare('alice2', 'abcd');
    for (let time = 0; time < 3; time++) await pass('alice2');
    expect((await status('alice2')).plugins.map(({ reason }) => reason)).toEqual(Array(4).fill('Succeeded'));
    expect(await readFile(at('old', '.plugset/settings/d'), 'utf8')).toContain('"default/alice2"');
    world.backend.remove(workspaceKey('default', 'alice2'));
    await pass('alice2');
    expect(await readdir(at('old'))).not.toContain('plugin-settings');
  });

  it('leaves nothing behind when it is deleted', async () => {
    await rename('alice', 'alice2');
    world.backend.remove(workspaceKey('default', 'alice2'));
    await pass('alice2');
    expect(await installed()).toBe('');
  });

  it('leaves nothing behind when it moves', async () => {
    await rename('alice', 'alice2');
    declare('alice2', 'abc', {}, 'new');
    await pass('alice2');
    expect([await installed(), await installed('new')]).toEqual(['', 'abc']);
  });

  it('keeps its target when somebody declares the old name there again', async () => {
    await rename('alice', 'alice2');
    declare('alice', 'd');
    expect(await pass('alice')).toMatchObject({ reason: 'TargetClaimed' });
    expect(await pass('alice2')).toMatchObject({ failure: undefined });
    expect(await installed()).toBe('abc');
  });

  it('also takes over what lies beside plugins of its own', async () => {
    const receipt = at('old', '.plugset', 'receipts', 'a');
    const before = await readFile(receipt);
    await rename('alice', 'alice2');
    await writeFile(receipt, before);
    await passAfresh('alice2');
    expect(await ownerOf('a')).toBe('default/alice2');
  });

  it.each(['Observe', 'Plan'] as const)('takes nothing over in mode %s, and shows what it would', async (mode) => {
    await rename('alice', 'alice2', { mode });
    expect(await ownerOf('a')).toBe('default/alice');
    const { summary, held } = await status('alice2');
    expect(summary).toBe('3/3');
    expect(held?.changes).toMatchObject([
      expect.stringMatching(/^adopt a /),
      expect.stringMatching(/^adopt b /),
      expect.stringMatching(/^adopt c /),
    ]);
  });

  it('takes nothing over while the fleet is paused', async () => {
    await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, { since: '', by: 'me', reason: '' }, signal());
    await rename('alice', 'alice2');
    expect(await ownerOf('a')).toBe('default/alice');
    expect((await status('alice2')).held?.reason).toBe('Paused');
  });

  it('takes nothing over from one whose declaration cannot be read', async () => {
    world.backend.malform(workspaceKey('default', 'alice'));
    declare('alice2', 'abc');
    // By a process that never saw where it points.
    await passAfresh('alice2');
    expect([await ownerOf('a'), (await status('alice2')).summary]).toEqual(['default/alice', '3/3']);
  });

  it('gives what it leaves to whoever has its target next', async () => {
    declare('alice', 'abc', {}, 'new');
    declare('bob', 'abc');
    await workshop.claims.introduceAll(
      ['alice', 'bob'].map((name) => workspaceKey('default', name)),
      signal(),
    );
    await pass('alice');
    await pass('bob');
    expect([await ownerOf('a'), await installed('new')]).toEqual(['default/bob', 'abc']);
  });
});
