import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NAME = 'settled';
const FILE = '/configs/plugin-settings/tool.json';
const PROFILES = BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 }));

/** What becomes of a running container when nothing but settings change. */
await withBackend('docker', (engine) => {
  describe('settings of a plugin in a container', () => {
    let containers: TestContainers;
    let plugset: Plugset;
    let container: Docker.Container;

    const start = async (profiles: typeof PROFILES): Promise<void> => {
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles,
          activation: { quietMs: 200, patienceMs: 2_000, perHour: 10 },
          resolveIntervalMs: 200,
        },
      });
      await writePlugin(join(plugset.dirs.registry, 'tool'), { 'SKILL.md': 'a tool\n' });
    };
    beforeEach(async () => {
      containers = new TestContainers(engine);
      container = await containers.create({
        name: `ws-${NAME}`,
        labels: { 'plugset.dev/workspace': `default/${NAME}` },
      });
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const declare = async (config: Readonly<Record<string, unknown>> | undefined): Promise<void> => {
      await plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: NAME },
          spec: {
            runtime: 'claude-code',
            target: { docker: {} },
            plugins: [{ name: 'tool', source: 'tool', ...(config && { config }) }],
          },
        },
        AbortSignal.timeout(60_000),
      );
      await plugset.untilReady(NAME);
      await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'ActivationPending')?.reason).toBeUndefined(),
      );
    };
    const startedAt = async (): Promise<string> => (await container.inspect()).State.StartedAt;
    const onDisk = (): Promise<string> => eventually(() => containers.exec(container, ['cat', FILE]));
    const history = async (): Promise<string> =>
      (await plugset.status(NAME)).history.map(({ summary }) => summary).join('\n');

    it('other ones restart nothing', async () => {
      await start(PROFILES);
      await declare({ a: 1 });
      const before = await startedAt();
      expect(JSON.parse(await onDisk())).toEqual({ a: 1 });
      for (const config of [{ a: 2 }, { a: 2, b: 3 }]) {
        await declare(config);
        expect(JSON.parse(await onDisk())).toEqual(config);
      }
      await declare(undefined);
      expect(await containers.exec(container, ['ls', '/configs'])).not.toContain('plugin-settings');
      await plugset.requested(NAME);
      expect(await startedAt()).toBe(before);
      expect(await history()).toContain('configured tool');
    });

    it('other ones take one restart where the profile says that they need it', async () => {
      await start(PROFILES.map((profile) => ({ ...profile, settingsNeedRestart: true })));
      await declare({ a: 1 });
      const before = await startedAt();
      await declare({ a: 2 });
      await eventually(async () => expect(await startedAt()).not.toBe(before));
      expect(JSON.parse(await onDisk())).toEqual({ a: 2 });
    });
  });
});
