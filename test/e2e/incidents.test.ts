import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type Docker from 'dockerode';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import type { PluginStatus, WorkspaceStatus } from '../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION, RESTART_REQUESTED_AT_ANNOTATION } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers, type TestContainerOptions } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { GitRepo } from '../support/git-repo.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const NEVER = 600_000;
const NAME = 'incident';

/**
 * Outages of the system that this replaces, each on a real container: what its users saw then must not be seen here. Each
 * is named by its row; others stand beside what they are about, with the same names.
 */
await withBackend('docker', (engine) => {
  describe('incidents', () => {
    let containers: TestContainers;
    let plugset: Plugset;

    beforeEach(async () => {
      containers = new TestContainers(engine);
      plugset = await startPlugset({
        store: { kind: 'files' },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
          activation: { quietMs: 500, patienceMs: 5_000, perHour: 3 },
          resolveIntervalMs: 500,
          probeIntervalMs: NEVER,
          deepIntervalMs: NEVER,
        },
      });
      for (const plugin of ['one', 'two', 'three', 'four', 'five'])
        await writePlugin(join(plugset.dirs.registry, plugin), { 'SKILL.md': `${plugin}\n` });
    });
    afterEach(async () => {
      await plugset.stop();
      await containers.removeAll();
    });

    const create = (options: TestContainerOptions = {}): Promise<Docker.Container> =>
      containers.create({ name: `ws-${NAME}`, labels: { 'plugset.dev/workspace': `default/${NAME}` }, ...options });
    const manifestOf = (sources: Readonly<Record<string, string>>, policy: object = {}) => ({
      apiVersion: 'plugset.dev/v1alpha1' as const,
      kind: 'Workspace' as const,
      metadata: { name: NAME },
      spec: {
        runtime: 'claude-code',
        target: { docker: {} },
        policy,
        plugins: Object.entries(sources).map(([name, source]) => ({ name, source })),
      },
    });
    const declare = async (sources: Readonly<Record<string, string>>, policy: object = {}): Promise<void> => {
      await plugset.app.store.apply(manifestOf(sources, policy), AbortSignal.timeout(60_000));
    };
    const startedAt = async (container: Docker.Container): Promise<string> =>
      (await container.inspect()).State.StartedAt;
    /** The restart that takes plugins up may end a command that runs there, or keep it from beginning. */
    const inside = (container: Docker.Container, argv: readonly string[]): Promise<string> =>
      eventually(() => containers.exec(container, argv));
    const skillOf = (container: Docker.Container, plugin: string): Promise<string> =>
      inside(container, ['cat', `/configs/plugins/${plugin}/SKILL.md`]);
    const row = ({ plugins }: WorkspaceStatus, name: string): PluginStatus | undefined =>
      plugins.find((plugin) => plugin.name === name);
    /** Installed, restarted for it, and at rest; answers since when it runs. */
    const untilAtRest = async (container: Docker.Container, before: string): Promise<string> => {
      await plugset.untilReady(NAME);
      await eventually(async () => expect(await startedAt(container)).not.toBe(before));
      await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'ActivationPending')?.reason).toBeUndefined(),
      );
      return startedAt(container);
    };

    it('I-05: what could not be delivered is not recorded as delivered, and is delivered later', async () => {
      const container = await create();
      await declare({ one: 'one' });
      await untilAtRest(container, await startedAt(container));
      const installed = row(await plugset.status(NAME), 'one')?.digest;
      await container.pause();
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'newer\n' });
      await plugset.requested(NAME);
      const status = await plugset.status(NAME);
      expect(findCondition(status.conditions, 'Ready')?.status).not.toBe('True');
      expect([installed, undefined]).toContain(row(status, 'one')?.digest);
      await container.unpause();
      await eventually(async () => expect(await skillOf(container, 'one')).toBe('newer\n'));
      await plugset.until(NAME, (now) => {
        expect(findCondition(now.conditions, 'Ready')?.status).toBe('True');
        expect(row(now, 'one')?.digest).not.toBe(installed);
      });
    });

    it('I-08: on a fresh box five of six plugins run where one cannot be fetched, and that one is named', async () => {
      const container = await create();
      await declare({ one: 'one', two: 'two', three: 'three', four: 'four', five: 'five', six: 'nowhere' });
      const status = await plugset.until(NAME, ({ summary }) => expect(summary).toBe('5/6'));
      expect(row(status, 'six')).toMatchObject({ state: 'Failed', reason: 'PluginNotFound' });
      for (const plugin of ['one', 'two', 'three', 'four', 'five'])
        await eventually(async () => expect(await skillOf(container, plugin)).toBe(`${plugin}\n`));
    });

    it('I-07: of two entries with one directory none is chosen, it is said, and what is installed stays', async () => {
      const container = await create();
      await declare({ one: 'one', two: 'two' });
      await untilAtRest(container, await startedAt(container));
      const twice = manifestOf({ one: 'one', two: 'two' });
      twice.spec.plugins.push({ name: 'one', source: 'three' });
      await writeFile(join(plugset.dirs.files, `${NAME}.yaml`), JSON.stringify(twice));
      await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'Ready')).toMatchObject({
          reason: 'InvalidSpec',
          message: expect.stringContaining('plugin one is declared twice') as string,
        }),
      );
      for (const plugin of ['one', 'two'])
        await eventually(async () => expect(await skillOf(container, plugin)).toBe(`${plugin}\n`));
    });

    it('I-18: a protected workspace is not restarted, it is told what waits, and who asks has it restarted once', async () => {
      const container = await create();
      await declare({ one: 'one' }, { restart: 'Never' });
      const before = await startedAt(container);
      await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'ActivationPending')?.reason).toBe('RestartNever'),
      );
      for (let time = 0; time < 3; time++) await plugset.requested(NAME);
      expect(await startedAt(container)).toBe(before);
      const key = workspaceKey('default', NAME);
      const asked = { [RESTART_REQUESTED_AT_ANNOTATION]: 'now', [REQUESTED_AT_ANNOTATION]: 'now' };
      await plugset.app.store.annotate(key, asked, AbortSignal.timeout(60_000));
      const after = await untilAtRest(container, before);
      for (let time = 0; time < 3; time++) await plugset.requested(NAME);
      expect(await startedAt(container)).toBe(after);
      const told = (await plugset.status(NAME)).history.map(({ summary }) => summary);
      expect(told.join('\n')).toContain('restarted, as somebody asked, container');
    });

    it('I-11: what the boot has installed already is neither sent again nor restarted for', async () => {
      const container = await create();
      await containers.exec(container, [
        'sh',
        '-c',
        'mkdir -p /configs/plugins/one && echo one >/configs/plugins/one/SKILL.md',
      ]);
      const tree = (): Promise<string> =>
        containers.exec(container, ['stat', '-c', '%i %Y', '/configs/plugins/one/SKILL.md']);
      const [before, started] = [await tree(), await startedAt(container)];
      await declare({ one: 'one' });
      await plugset.untilReady(NAME);
      expect(row(await plugset.status(NAME), 'one')).toMatchObject({ state: 'Installed', managed: true });
      await plugset.requested(NAME);
      expect(await tree()).toBe(before);
      expect(await startedAt(container)).toBe(started);
    });

    it('I-16, I-17: where the next revision cannot be had, the running one is left alone and the refusal is shown', async () => {
      const container = await create();
      await declare({ one: 'one' });
      const started = await untilAtRest(container, await startedAt(container));
      await rm(join(plugset.dirs.registry, 'two'), { recursive: true });
      await declare({ one: 'two' });
      await plugset.until(NAME, (now) => expect(row(now, 'one')?.reason).toBe('PluginNotFound'));
      await plugset.requested(NAME);
      expect(await skillOf(container, 'one')).toBe('one\n');
      expect(await startedAt(container)).toBe(started);
    });

    it('I-31: what is reported as installed are the bytes that a reader on the box gets', async () => {
      const container = await create();
      const content = `${'line of a skill\n'.repeat(5_000)}ünïcode, no end of line`;
      await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': content, 'deep/er/file.txt': '' });
      await declare({ one: 'one' });
      await plugset.untilReady(NAME);
      expect(await skillOf(container, 'one')).toBe(content);
      const files = await inside(container, ['find', '/configs/plugins', '-type', 'f']);
      expect(files.trim().split('\n').toSorted()).toEqual([
        '/configs/plugins/one/SKILL.md',
        '/configs/plugins/one/deep/er/file.txt',
      ]);
    });

    it('I-37: what is recorded as installed and not on the box is delivered again', async () => {
      const first = await create();
      await declare({ one: 'one', two: 'two' });
      await untilAtRest(first, await startedAt(first));
      await first.remove({ force: true, v: true });
      const second = await create();
      await eventually(async () => {
        for (const plugin of ['one', 'two']) expect(await skillOf(second, plugin)).toBe(`${plugin}\n`);
      });
      await plugset.untilReady(NAME);
    });

    it('G-05: a bump from one pin to the next converges, in every form of a pin', async () => {
      const container = await create();
      const repository = await GitRepo.create(join(plugset.dirs.git, 'one'));
      const old = await repository.commit({ 'SKILL.md': 'v1\n' });
      await repository.tag('v1');
      const young = await repository.commit({ 'SKILL.md': 'v2\n' });
      await repository.tag('v2');
      const base = `git+file://${repository.bare}`;
      for (const [before, after] of [
        ['tag:v1', 'tag:v2'],
        ['v1', 'v2'],
        [old, young],
        [`sha:${old}`, `sha:${young}`],
      ]) {
        for (const [pin, text] of [
          [before, 'v1\n'],
          [after, 'v2\n'],
        ]) {
          await declare({ one: `${base}#${pin}` });
          await eventually(async () => expect(await skillOf(container, 'one'), pin).toBe(text));
        }
      }
    });

    it('G-22: a restart that is put off is told as put off, with its time, and never as done', async () => {
      const container = await create();
      await declare({ one: 'one' });
      let started = await untilAtRest(container, await startedAt(container));
      for (const source of ['two', 'three']) {
        await declare({ one: source });
        started = await untilAtRest(container, started);
      }
      await declare({ one: 'four' });
      const status = await plugset.until(NAME, ({ conditions }) =>
        expect(findCondition(conditions, 'ActivationPending')?.reason).toBe('RestartDeferred'),
      );
      const pending = findCondition(status.conditions, 'ActivationPending');
      const dueAt = /it is restarted at (\S+)$/.exec(pending?.message ?? '')?.[1] ?? '';
      expect(Date.parse(dueAt) - Date.now()).toBeGreaterThan(30 * 60_000);
      await plugset.requested(NAME);
      const { history } = await plugset.status(NAME);
      expect(history[0], 'no restart since').toMatchObject({
        summary: expect.stringMatching(/^replaced one /),
        times: 1,
      });
      expect(await startedAt(container)).toBe(started);
    });
  });
});
