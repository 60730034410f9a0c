import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, it, onTestFinished } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { transient } from '../../../src/domain/errors.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import { API_VERSION } from '../../../src/domain/workspace.ts';
import type { PluginSource } from '../../../src/ports/plugin-source.ts';
import { SourceRegistry } from '../../../src/reconcile/source-registry.ts';
import { createWorkshop } from '../../../src/workshop.ts';
import { memoryArtifact } from '../../support/memory-artifact.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const SOURCE = 'git+ssh://git@host/demo#main';
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 1,
  laneLimit: 1,
  probeIntervalMs: 1000,
  deepIntervalMs: 1000,
  resolveIntervalMs: 3_600_000,
  firstPassPerSecond: 1000,
  graceMs: 1000,
};

it('a tree stands while its source is down, also after a restart and with a user name in the source', async () => {
  const { backend, close, dirs, ports } = await createSmallWorld();
  const forge = { isDown: false };
  const source: PluginSource = {
    schemes: ['git+ssh'],
    parse: (ref) => ({ ref, group: ref.text, selector: '', subPath: '', pinned: false }),
    async resolve(wanted) {
      if (forge.isDown) throw transient('SourceUnavailable', 'the forge is down');
      return new Map(wanted.map((one) => [one, 'c1']));
    },
    async *fetch() {},
  };
  const registry = new SourceRegistry([source]);
  const artifact = memoryArtifact({ f: 'content' });
  const artifacts = { get: async () => artifact };
  const home = join(dirs.root, 'alice');
  await mkdir(home);
  backend.declare({
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name: 'alice' },
    spec: { runtime: 'claude-code', target: { directory: { path: home } }, plugins: [{ name: 'a', source: SOURCE }] },
  });
  const pass = async () => {
    const { reconciler, revisions } = createWorkshop({ ...ports, registry, artifacts }, LIMITS, () => undefined);
    onTestFinished(() => revisions.stop());
    await reconciler.reconcile(KEY, { authority: 'us', epoch: 1, n: 1 }, new AbortController().signal);
    const loaded = await ports.store.get(KEY, new AbortController().signal);
    return loaded.kind === 'absent' ? undefined : loaded.status.plugins[0];
  };
  expect(await pass()).toMatchObject({ state: 'Installed', reason: 'Succeeded', source: SOURCE });
  forge.isDown = true;
  expect(await pass()).toMatchObject({ state: 'Installed', reason: 'SourceUnavailable', source: SOURCE });
  await close();
});

it('settings that refer to what is on no list are told as not delivered, and what they refer to reaches nobody', async () => {
  const { backend, close, dirs, ports } = await createSmallWorld();
  const home = join(dirs.root, 'alice');
  await mkdir(home);
  for (const name of ['set', 'bare']) await writePlugin(join(dirs.registry, name), { 'SKILL.md': name });
  const config = { token: { $ref: `file:${join(dirs.root, 'secret')}` } };
  backend.declare({
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name: 'alice' },
    spec: {
      runtime: 'claude-code',
      target: { directory: { path: home } },
      plugins: [
        { name: 'set', source: 'set', config },
        { name: 'bare', source: 'bare', config: {} },
      ],
    },
  });
  const { reconciler, revisions } = createWorkshop(ports, LIMITS, () => undefined);
  onTestFinished(() => revisions.stop());
  await reconciler.reconcile(KEY, { authority: 'us', epoch: 1, n: 1 }, new AbortController().signal);
  const loaded = await ports.store.get(KEY, new AbortController().signal);
  if (loaded.kind !== 'found') throw new Error('it is declared');
  const { conditions, plugins } = loaded.status;
  expect(plugins.map(({ name, state, reason }) => [name, state, reason])).toEqual([
    ['set', 'Failed', 'ConfigNotDelivered'],
    ['bare', 'Installed', 'Succeeded'],
  ]);
  expect(findCondition(conditions, 'Ready')).toMatchObject({
    status: 'False',
    message: expect.stringMatching(/^plugin set: its settings refer to file:.*: the operator's list/),
  });
  expect(await readdir(home)).not.toContain('plugin-settings');
  await close();
});

it('settings stand through passes that only probe, and are delivered anew after an edit that such a pass plans', async () => {
  const { backend, close, dirs, ports } = await createSmallWorld();
  const home = join(dirs.root, 'alice');
  await mkdir(home);
  await writePlugin(join(dirs.registry, 'set'), { 'SKILL.md': 'set' });
  const declare = (config: Readonly<Record<string, unknown>>): void => {
    backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home } },
        plugins: [{ name: 'set', source: 'set', config }],
      },
    });
  };
  const limits = { ...LIMITS, deepIntervalMs: 3_600_000 };
  const { reconciler, revisions } = createWorkshop(ports, limits, () => undefined);
  onTestFinished(() => revisions.stop());
  const pass = async (): Promise<unknown> => {
    await reconciler.reconcile(KEY, { authority: 'us', epoch: 1, n: 1 }, new AbortController().signal);
    const loaded = await ports.store.get(KEY, new AbortController().signal);
    return loaded.kind === 'absent' ? undefined : loaded.status.plugins[0]?.reason;
  };
  declare({ token: { $ref: 'env:A_SECRET' } });
  for (let time = 0; time < 4; time++) expect(await pass()).toBe('Succeeded');
  expect(reconciler.deepLookInMs(KEY)).toBeGreaterThan(0);
  declare({ token: { $ref: 'env:A_SECRET' }, more: true });
  expect(await pass()).toBe('Succeeded');
  expect(JSON.parse(await readFile(join(home, 'plugin-settings/set.json'), 'utf8'))).toEqual({
    token: 'hush',
    more: true,
  });
  await close();
});
