import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { transient, waiting } from '../../../src/domain/errors.ts';
import { PAUSE_KEY } from '../../../src/domain/fleet.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import { API_VERSION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import type { PluginHost } from '../../../src/ports/plugin-host.ts';
import { createWorkshop } from '../../../src/workshop.ts';
import { argoHealth, LUA_IS_MISSING } from '../../support/argocd-health.ts';
import { kstatus } from '../../support/kstatus.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const FENCE = { authority: 'us', epoch: 1, n: 1 };
const HOUR = 3_600_000;
const LIMITS = {
  guards: { ...DEFAULT_GUARDS, plugins: 0, share: 0 },
  activation: DEFAULT_ACTIVATION,
  giveUpDeletionAfterMs: HOUR,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
};

describe.skipIf(LUA_IS_MISSING)('health.lua over what the controller has written', () => {
  let world: SmallWorld;
  let home: string;

  beforeEach(async () => {
    world = await createSmallWorld();
    home = join(world.dirs.root, 'alice');
    await mkdir(home);
    for (const name of ['a', 'b']) await writePlugin(join(world.dirs.registry, name), { 'SKILL.md': `${name} 1\n` });
  });
  afterEach(() => world.close());

  const declare = (spec: Partial<WorkspaceManifest['spec']> = {}): void =>
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
  const pass = async (host: PluginHost = world.ports.host): Promise<void> => {
    const workshop = createWorkshop({ ...world.ports, host }, LIMITS, () => {});
    try {
      // What ends a pass is in the status.
      await workshop.reconciler.reconcile(KEY, FENCE, new AbortController().signal).catch(() => undefined);
    } finally {
      workshop.revisions.stop();
    }
  };
  const failing = (error: Error): PluginHost => ({
    observe: async () => {
      throw error;
    },
    converge: async () => {
      throw error;
    },
  });
  const pause = { since: '2026-11-23T00:00:00Z', by: 'ann', reason: 'incident "12"\\n' };

  const situations: Readonly<Record<string, readonly [health: string, message: RegExp, make: () => Promise<void>]>> = {
    'declared a moment ago': ['Progressing', /not ended a pass/, async () => declare()],
    'as declared': ['Healthy', /^Succeeded: 1 of 1/, async () => (declare(), pass())],
    'edited since': [
      'Progressing',
      /not ended a pass/,
      async () => (declare(), await pass(), declare({ plugins: [] })),
    ],
    'changed on its target, and left so': [
      'Healthy',
      /^Drifted: 0 of 1/,
      async () => {
        declare({ policy: { drift: 'Warn' } });
        await pass();
        await writeFile(join(home, 'plugins/a/SKILL.md'), 'edited');
        await pass();
      },
    ],
    'edited, and tried again': [
      'Progressing',
      /^Unreachable: nobody answers/,
      async () => {
        declare();
        await pass();
        declare({ plugins: [{ name: 'b', source: 'b' }] });
        await pass(failing(transient('Unreachable', 'nobody answers')));
      },
    ],
    'as declared before, and out of reach': [
      'Progressing',
      /^WorkspaceNotRunning: it does not run/,
      async () => {
        declare();
        await pass();
        await pass(failing(waiting('WorkspaceNotRunning', 'it does not run', 1000)));
      },
    ],
    'without a target': [
      'Progressing',
      /^WorkspaceNotFound: /,
      async () => (await rm(home, { recursive: true }), declare(), pass()),
    ],
    'with a runtime that nobody knows': [
      'Degraded',
      /^UnknownRuntime: /,
      async () => (declare({ runtime: 'abacus' }), pass()),
    ],
    'with a plugin that is not there': [
      'Degraded',
      /^PluginNotFound: /,
      async () => {
        declare({
          plugins: [
            { name: 'a', source: 'a' },
            { name: 'lost', source: 'lost' },
          ],
        });
        await pass();
      },
    ],
    'that cannot be read': ['Degraded', /^InvalidSpec: /, async () => (declare(), world.backend.malform(KEY), pass())],
    suspended: ['Suspended', /^Suspended: /, async () => (declare({ suspend: true }), pass())],
    'that pulls for itself': ['Suspended', /^Pull: /, async () => (declare({ target: { external: {} } }), pass())],
    'that is only observed': [
      'Suspended',
      /^ObserveOnly: /,
      async () => (declare({ policy: { mode: 'Observe' } }), pass()),
    ],
    'whose plan waits': [
      'Suspended',
      /^AwaitingApproval: /,
      async () => (declare({ policy: { mode: 'Plan' } }), pass()),
    ],
    'of a fleet that is paused': [
      'Suspended',
      /^Paused: .*incident "12"/,
      async () => {
        await world.ports.state.compareAndSwap(PAUSE_KEY, undefined, pause, new AbortController().signal);
        declare();
        await pass();
      },
    ],
    'that would lose too much': [
      'Suspended',
      /^PruneHeld: /,
      async () => (declare(), await pass(), declare({ plugins: [] }), pass()),
    ],
    'deleted, and waited for': [
      'Progressing',
      /^Unreachable: waits until /,
      async () => {
        declare();
        await pass();
        world.backend.remove(KEY);
        await pass(failing(transient('Unreachable', 'nobody answers')));
      },
    ],
  };

  it.each(Object.keys(situations))('of a workspace %s', async (title) => {
    const [health, message, make] = situations[title]!;
    await make();
    const row = world.backend.rows.get(KEY)!;
    const { generation, deleting, manifest, status } = row;
    const object = {
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: {
        ...manifest.metadata,
        generation,
        ...(deleting ? { deletionTimestamp: '2026-11-23T00:00:00Z' } : {}),
      },
      spec: manifest.spec,
      status,
    };
    const said = await argoHealth(object);
    expect(said).toEqual({ status: health, message: expect.stringMatching(message) });
    const verdict = kstatus(generation, deleting, status);
    expect(verdict).toBe(
      { Healthy: 'Current', Degraded: 'Failed' }[health] ?? (deleting ? 'Terminating' : 'InProgress'),
    );
    for (const { type, status: is, observedGeneration } of status.conditions) {
      expect(observedGeneration).toBeLessThanOrEqual(generation);
      if (type !== 'Ready' && type !== 'Reachable') expect(is).toBe('True');
    }
  });

  it('knows of an object that no controller has seen', async () => {
    const metadata = { name: 'alice', generation: 1 };
    for (const status of [undefined, {}, { observedGeneration: -1 }])
      expect(await argoHealth({ metadata, status })).toMatchObject({ status: 'Progressing' });
  });
});
