import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES, type RuntimeProfile } from '../../src/domain/profile.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NAME = 'worded';

/** Commands of a profile by which a runtime itself says how it is. */
await withBackend('docker', (engine) => {
  describe('the word of a runtime', () => {
    let containers: TestContainers;
    let plugset: Plugset;
    let container: Docker.Container;

    const start = async (words: Partial<RuntimeProfile>): Promise<void> => {
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0, ...words })),
          activation: { quietMs: 200, patienceMs: 2_000, perHour: 10 },
        },
      });
      await writePlugin(join(plugset.dirs.registry, 'tool'), { 'SKILL.md': 'a tool\n' });
      container = await containers.create({
        name: `ws-${NAME}`,
        labels: { 'plugset.dev/workspace': `default/${NAME}` },
      });
    };
    beforeEach(() => {
      containers = new TestContainers(engine);
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const declare = (): Promise<unknown> =>
      plugset.app.store.apply(
        {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          metadata: { name: NAME },
          spec: { runtime: 'claude-code', target: { docker: {} }, plugins: [{ name: 'tool', source: 'tool' }] },
        },
        AbortSignal.timeout(60_000),
      );
    const startedAt = async (): Promise<string> => (await container.inspect()).State.StartedAt;
    const inContainer = (...argv: readonly string[]): Promise<string> =>
      eventually(() => containers.exec(container, argv));
    const untilPending = (reason: string | undefined, message: RegExp): Promise<WorkspaceStatus> =>
      plugset.until(NAME, ({ conditions }) => {
        const pending = findCondition(conditions, 'ActivationPending');
        expect(pending?.reason).toBe(reason);
        expect(pending?.message ?? '').toMatch(message);
      });
    const untilNothingPending = (): Promise<WorkspaceStatus> => untilPending(undefined, /^$/);

    it('I-39: it has taken plugins up when it says so itself, and not when it was restarted', async () => {
      await start({ ready: ['test', '-e', '/configs/ready'] });
      const before = await startedAt();
      // What has never said a word is not restarted before its quarter of an hour; so it has said one here.
      await inContainer('touch', '/configs/ready');
      await declare();
      await eventually(async () => expect(await startedAt()).not.toBe(before));
      await untilNothingPending();
      await inContainer('rm', '/configs/ready');
      await writePlugin(join(plugset.dirs.registry, 'tool'), { 'SKILL.md': 'a newer tool\n' });
      await plugset.requested(NAME);
      await untilPending('RestartPending', /finished starting/);
      await inContainer('touch', '/configs/ready');
      await plugset.requested(NAME);
      await untilNothingPending();
    });

    it('it is told to reload an upgrade of files that it reloads, once, and restarted where that fails', async () => {
      await start({
        rereads: ['skills/**'],
        reload: { paths: ['rules/**'], command: ['sh', '-c', 'echo >>/configs/reloads; exit "$(cat /configs/code)"'] },
      });
      await inContainer('sh', '-c', 'echo 0 >/configs/code');
      const release = async (rule: string, skill: string, rest: string): Promise<void> => {
        await writePlugin(join(plugset.dirs.registry, 'tool'), { 'rules/r.md': rule, 'skills/s.md': skill, rest });
        await plugset.requested(NAME);
        await eventually(async () => expect(await inContainer('cat', '/configs/plugins/tool/rules/r.md')).toBe(rule));
      };
      const reloads = async (): Promise<number> =>
        (await inContainer('sh', '-c', 'cat /configs/reloads 2>/dev/null || :')).length;
      await declare();
      const first = await startedAt();
      await release('1', '1', '1');
      await eventually(async () => expect(await startedAt()).not.toBe(first));
      await untilNothingPending();
      const before = await startedAt();
      await release('1', '2', '1');
      await untilNothingPending();
      expect(await reloads()).toBe(0);
      await release('2', '3', '1');
      await untilNothingPending();
      expect(await reloads()).toBe(1);
      await plugset.requested(NAME);
      expect(await reloads()).toBe(1);
      expect(await startedAt()).toBe(before);
      await inContainer('sh', '-c', 'echo 5 >/configs/code');
      await release('3', '3', '1');
      await eventually(async () => expect(await startedAt()).not.toBe(before));
      await untilNothingPending();
      const told = (await plugset.status(NAME)).history.map(({ summary }) => summary).join('\n');
      expect(told).toMatch(/reloaded container .*, so that it takes up: replace tool/);
    });

    it('it is not restarted while it says that it is at work, or while nobody can tell', async () => {
      await start({ busy: ['sh', '-c', 'exit "$(cat /configs/busy)"'] });
      const before = await startedAt();
      await inContainer('sh', '-c', 'echo 0 >/configs/busy');
      await declare();
      await untilPending('RestartDeferred', /at work \(busy\); it is asked again at /);
      await inContainer('sh', '-c', 'echo 3 >/configs/busy');
      await plugset.requested(NAME);
      await untilPending('RestartDeferred', /ended with 3/);
      expect(await startedAt()).toBe(before);
      await inContainer('sh', '-c', 'echo 1 >/configs/busy');
      await plugset.requested(NAME);
      await eventually(async () => expect(await startedAt()).not.toBe(before));
      await untilNothingPending();
    });
  });
});
