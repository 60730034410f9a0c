import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { DEFAULT_FLEET_RESTARTS } from '../../src/domain/restart-budget.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import { createWorkshop, type Workshop } from '../../src/workshop.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { LeapingClock } from '../support/leaping-clock.ts';
import { STARTS_PLUGINS, writeNastyPlugin } from '../support/nasty-plugin.ts';
import { createSmallWorld, type SmallWorld } from '../support/small-world.ts';

const KEY = workspaceKey('default', 'nasty');
const STEP_MS = 30_000;
const STEPS = 20;

/** What people run who have configured nothing, but that every pass looks at every file. */
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  fleetRestarts: DEFAULT_FLEET_RESTARTS,
  probeIntervalMs: STEP_MS,
  deepIntervalMs: 0,
  resolveIntervalMs: STEP_MS,
};

/**
 * Incident I-01: a plugin wrote into its own tree, was taken for changed, and its workspace was restarted 24 to 32 times an
 * hour. Whether something loops shows only in time, so time goes by here, in steps of real passes over a real container.
 */
await withBackend('docker', (engine) => {
  describe('I-01: a container with a plugin that writes into its own tree, hangs and dies at its start', () => {
    let world: SmallWorld;
    let clock: LeapingClock;
    let provider: DockerTargetProvider;
    let containers: TestContainers;
    let container: Docker.Container;
    let workshop: Workshop;

    beforeEach(async () => {
      world = await createSmallWorld();
      clock = new LeapingClock();
      provider = new DockerTargetProvider({
        engines: [{ name: 'default', address: engine }],
        clock,
        logger: world.logger,
      });
      const profiles = BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 }));
      const ports = { ...world.ports, clock, profiles, providers: [provider] };
      workshop = createWorkshop(ports, LIMITS, () => undefined);
      containers = new TestContainers(engine);
      container = await containers.create({ labels: { 'plugset.dev/workspace': KEY }, command: STARTS_PLUGINS });
      world.backend.declare({
        apiVersion: API_VERSION,
        kind: 'Workspace',
        metadata: { name: 'nasty' },
        spec: { runtime: 'claude-code', target: { docker: {} }, plugins: [{ name: 'nasty', source: 'nasty' }] },
      });
    });
    afterEach(async () => {
      workshop.revisions.stop();
      await provider.close();
      await containers.removeAll();
      await world.close();
    });

    const startedAt = async (): Promise<string> => (await container.inspect()).State.StartedAt;

    /** One pass, a step later; answers the reasons of Ready and of what is pending. */
    const step = async (): Promise<readonly (string | undefined)[]> => {
      clock.leap(STEP_MS);
      await workshop.reconciler.reconcile(KEY, { authority: 'us', epoch: 1, n: 1 }, new AbortController().signal);
      const loaded = await world.ports.store.get(KEY, new AbortController().signal);
      if (loaded.kind !== 'found') throw new Error(`the workspace is ${loaded.kind}`);
      const { conditions } = loaded.status;
      return (['Ready', 'ActivationPending'] as const).map((type) => findCondition(conditions, type)?.reason);
    };

    const untilRestarted = async (): Promise<void> => {
      const first = await startedAt();
      for (let steps = 0; (await startedAt()) === first; steps++) {
        if (steps === STEPS) throw new Error('it is never restarted for the plugin that was installed');
        await step();
      }
    };

    const daemonState = (): Promise<string> => containers.exec(container, ['cat', '/configs/plugins/nasty/state.db']);

    it('is restarted once for the install, and in the ten minutes after it not again', async () => {
      await writeNastyPlugin(join(world.dirs.registry, 'nasty'));
      await untilRestarted();
      const started = await startedAt();
      let reasons: readonly (string | undefined)[] = [];
      for (let steps = 0; steps < STEPS; steps++) {
        const before = await eventually(daemonState);
        await eventually(async () => expect(await daemonState()).not.toBe(before));
        reasons = await step();
        expect(await startedAt(), `after ${steps + 1} passes`).toBe(started);
      }
      expect(reasons).toEqual(['Succeeded', undefined]);
    });

    it('is not restarted over and over where the plugin edits what was installed, and that is said', async () => {
      await writeNastyPlugin(join(world.dirs.registry, 'nasty'), { editsItself: true });
      await untilRestarted();
      const started = await startedAt();
      await eventually(daemonState);
      let reasons: readonly (string | undefined)[] = [];
      for (let steps = 0; steps < STEPS; steps++) {
        reasons = await step();
        expect(await startedAt(), `after ${steps + 1} passes`).toBe(started);
      }
      expect(reasons[1]).toBe('NotDurable');
    });
  });
});
