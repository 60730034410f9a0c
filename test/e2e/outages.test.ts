import { execFile } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { afterEach, describe, expect, it } from 'vitest';

import { findCondition, type ConditionType } from '../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { withBackend } from '../support/backend.ts';
import { OwnDockerd } from '../support/docker.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { EmbeddedPostgres } from '../support/embedded-postgres.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { GitRepo } from '../support/git-repo.ts';
import { PacedClock } from '../support/paced-clock.ts';
import { startPlugset, writePlugin, type Plugset, type PlugsetOptions } from '../support/plugset.ts';
import { SmallDisk } from '../support/small-disk.ts';

const TEN_MINUTES_MS = 600_000;
const SHELL = promisify(execFile);

/** Everything below a config directory: content, owners, modes, times. */
const CHECKSUM = 'cd "$1" && { find . -exec ls -ldn {} +; find . -type f -exec sha256sum {} +; } | sort';

async function checksum(directory: string): Promise<string> {
  return (await SHELL('sh', ['-euc', CHECKSUM, 'sh', directory])).stdout;
}

const closings: (() => Promise<void>)[] = [];

/** What was opened last is closed first. */
function later(close: () => Promise<void>): void {
  closings.unshift(close);
}

afterEach(async () => {
  for (const close of closings.splice(0)) await close();
});

/** A daemon whose minutes a test can make short, at intervals as people have them. */
async function start(options: PlugsetOptions): Promise<{ readonly plugset: Plugset; readonly clock: PacedClock }> {
  const clock = new PacedClock();
  later(() => clock.stop());
  const config = { probeIntervalMs: 1_000, deepIntervalMs: 10_000, leaseMs: 15_000, ...options.config };
  const plugset = await startPlugset({ ...options, config, parts: { clock } });
  later(() => plugset.stop());
  return { plugset, clock };
}

async function answerOf(plugset: Plugset, path: string): Promise<string> {
  return (await fetch(`${await plugset.metricsUrl()}${path}`)).text();
}

/** Value of the sample that is written so, labels and all; 0 where there is none. */
async function metric(plugset: Plugset, sample: string): Promise<number> {
  const line = (await answerOf(plugset, '/metrics')).split('\n').find((text) => text.startsWith(`${sample} `));
  return Number(line?.slice(sample.length + 1) ?? 0);
}

function reasonOf(status: WorkspaceStatus, type: ConditionType): string | undefined {
  return findCondition(status.conditions, type)?.reason;
}

function skill(plugset: Plugset, name: string, text: string): Promise<void> {
  return writePlugin(join(plugset.dirs.registry, name), { 'plugin.yaml': `name: ${name}\n`, 'SKILL.md': `${text}\n` });
}

/** A workspace as a file of the files store; whatever is removed from it would be removed from its target. */
async function declare(
  plugset: Plugset,
  name: string,
  target: object,
  sources: Readonly<Record<string, string>>,
): Promise<void> {
  const plugins = Object.entries(sources).map(([plugin, source]) => ({ name: plugin, source }));
  const manifest = {
    apiVersion: 'plugset.dev/v1alpha1',
    kind: 'Workspace',
    metadata: { name },
    spec: { runtime: 'claude-code', target, plugins, policy: { deletion: 'Remove' } },
  };
  await writeFile(join(plugset.dirs.files, `${name}.yaml`), JSON.stringify(manifest));
}

await withBackend('postgres', () => {
  describe('Postgres, stopped for ten minutes', () => {
    it('is said, nothing on a target changes, and what happened meanwhile is made good without a hand', async () => {
      const server = await EmbeddedPostgres.start();
      if (server === undefined) throw new Error('there are no binaries of Postgres');
      later(() => server.stop());
      const database = await freshDatabase(server.url);
      const { plugset, clock } = await start({ store: { kind: 'postgres', url: database.url } });
      const home = (name: string): string => join(plugset.dirs.root, name);
      for (const name of ['a', 'b']) await skill(plugset, name, 'one');
      for (const name of ['alice', 'bob']) {
        await mkdir(home(name));
        const target = { directory: { path: home(name) } };
        await database.sql(`insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', $2)`, [
          name,
          target,
        ]);
        for (const plugin of ['a', 'b'])
          await database.sql('insert into plugset.plugins (workspace, name, source) values ($1, $2, $2)', [
            name,
            plugin,
          ]);
        await plugset.untilReady(name);
      }
      const before = await checksum(home('alice'));

      await server.pause();
      await skill(plugset, 'a', 'two');
      await rm(join(home('bob'), 'plugins/b'), { recursive: true });
      const drifted = await checksum(home('bob'));
      await clock.hurry(TEN_MINUTES_MS);
      await eventually(async () => {
        expect(await answerOf(plugset, '/readyz?verbose')).toMatch(/^\[-\]store failed: waiting for the store: /m);
        expect(await metric(plugset, 'leader_election_master_status{name="plugset"}')).toBe(0);
        // Nobody knows the fleet now, and none of it is said to be fine or gone.
        expect(await answerOf(plugset, '/metrics')).not.toContain('\nplugset_workspaces{');
      });
      expect(await checksum(home('alice'))).toBe(before);
      expect(await checksum(home('bob'))).toBe(drifted);

      await server.resume();
      await eventually(async () => {
        expect(await readFile(join(home('alice'), 'plugins/a/SKILL.md'), 'utf8')).toBe('two\n');
        expect(await readFile(join(home('bob'), 'plugins/b/SKILL.md'), 'utf8')).toBe('one\n');
      });
      await eventually(async () => expect(await answerOf(plugset, '/readyz?verbose')).toContain('check passed'));
      for (const name of ['alice', 'bob']) await plugset.untilReady(name);
      await eventually(async () => expect(await metric(plugset, 'plugset_workspaces{ready="True"}')).toBe(2));
    });
  });
});

await withBackend('dockerd', () => {
  describe('an engine, stopped for ten minutes', () => {
    it('is said, nothing is removed, and what happened meanwhile is made good without a hand', async () => {
      const engine = await OwnDockerd.start();
      later(() => engine.stop());
      const containers = new TestContainers(engine.address);
      const engines = [{ name: 'default', address: engine.address }];
      const { plugset, clock } = await start({ store: { kind: 'files' }, config: { engines } });
      for (const name of ['a', 'b']) await skill(plugset, name, 'one');
      const [alice, bob] = await Promise.all(
        ['alice', 'bob'].map(async (name) => {
          const labels = { 'plugset.dev/workspace': `default/${name}` };
          const made = await containers.create({ labels, host: { RestartPolicy: { Name: 'always' } } });
          await declare(plugset, name, { docker: {} }, { a: 'a', b: 'b' });
          await plugset.untilReady(name);
          return made;
        }),
      );
      if (alice === undefined || bob === undefined) throw new Error('two were made');
      const sum = (of: typeof alice): Promise<string> =>
        containers.exec(of, ['sh', '-euc', CHECKSUM, 'sh', '/configs']);
      const before = await sum(alice);

      await engine.pause();
      await declare(plugset, 'bob', { docker: {} }, { a: 'a', b: 'b', c: 'c' });
      await skill(plugset, 'c', 'one');
      await clock.hurry(TEN_MINUTES_MS);
      for (const name of ['alice', 'bob']) {
        const status = await plugset.until(name, (now) => expect(reasonOf(now, 'Ready')).toBe('Unreachable'));
        expect(findCondition(status.conditions, 'Reachable')?.status).not.toBe('True');
        expect(findCondition(status.conditions, 'Stalled')).toBeUndefined();
      }
      await eventually(async () =>
        expect(await metric(plugset, 'plugset_reason_workspaces{ready="Unknown",reason="Unreachable"}')).toBe(2),
      );
      // As the alert PlugsetEngineFailing counts them.
      const failed = (await answerOf(plugset, '/metrics')).matchAll(
        /^plugset_engine_requests_total\{engine="default",.*outcome="(?:error|unanswered)"\} (\d+)$/gm,
      );
      expect([...failed].reduce((total, [, count]) => total + Number(count), 0)).toBeGreaterThan(0);

      await engine.resume();
      await plugset.untilReady('alice');
      expect(await sum(alice)).toBe(before);
      await plugset.untilReady('bob');
      expect(await containers.exec(bob, ['cat', '/configs/plugins/c/SKILL.md'])).toBe('one\n');
      await eventually(async () => expect(await metric(plugset, 'plugset_workspaces{ready="True"}')).toBe(2));
    });
  });
});

await withBackend('disk', () => {
  describe('the disk of the cache, full for ten minutes', () => {
    it('is said, what is installed stays and is kept, and the rest comes when there is room again', async () => {
      const disk = await SmallDisk.mount(4);
      later(() => disk.unmount());
      const { plugset, clock } = await start({ store: { kind: 'files' }, config: { cacheDir: disk.path } });
      const repository = await GitRepo.create(join(plugset.dirs.git, 'cloned'));
      await repository.commit({ 'SKILL.md': 'one\n' });
      const cloned = `git+file://${repository.bare}#main`;
      const home = (name: string): string => join(plugset.dirs.root, name);
      const read = (name: string, path: string): Promise<string> => readFile(join(home(name), 'plugins', path), 'utf8');
      const rowOf = ({ plugins }: WorkspaceStatus, name: string) => plugins.find((row) => row.name === name);
      await skill(plugset, 'a', 'one');
      for (const name of ['alice', 'bob']) {
        await mkdir(home(name));
        await declare(plugset, name, { directory: { path: home(name) } }, { a: 'a', cloned });
        await plugset.untilReady(name);
      }
      const before = await checksum(home('bob'));

      await disk.fill();
      await skill(plugset, 'b', 'one');
      await repository.commit({ 'SKILL.md': 'two\n' });
      await declare(plugset, 'alice', { directory: { path: home('alice') } }, { a: 'a', b: 'b', cloned });
      await plugset.until('alice', (status) => expect(rowOf(status, 'b')?.reason).toBe('CacheUnavailable'));
      // What was fetched before is still read from there.
      await rm(join(home('alice'), 'plugins/a'), { recursive: true });
      await clock.hurry(TEN_MINUTES_MS);
      expect(await read('alice', 'a/SKILL.md')).toBe('one\n');
      expect(await checksum(home('bob'))).toBe(before);

      const lacking = await plugset.status('alice');
      expect(findCondition(lacking.conditions, 'Ready')).toMatchObject({
        status: 'False',
        reason: 'CacheUnavailable',
        message: expect.stringMatching(/^plugin b: the artifact cache in .* cannot be used \(ENOSPC\)$/),
      });
      expect(findCondition(lacking.conditions, 'Stalled')).toBeUndefined();
      const waiting = await plugset.status('bob');
      expect(findCondition(waiting.conditions, 'Ready')).toMatchObject({ status: 'True' });
      expect(rowOf(waiting, 'cloned')).toMatchObject({ state: 'Installed', reason: 'CacheUnavailable' });
      expect(await metric(plugset, 'plugset_artifact_cache_failures_total')).toBeGreaterThan(0);
      expect(await metric(plugset, 'plugset_reason_workspaces{ready="False",reason="CacheUnavailable"}')).toBe(1);
      expect(await metric(plugset, 'plugset_source_resolve_total{scheme="git+file",outcome="error"}')).toBeGreaterThan(
        0,
      );
      expect(await metric(plugset, 'controller_runtime_reconcile_panics_total{controller="workspace"}')).toBe(0);

      await disk.makeRoom();
      await eventually(async () => {
        expect(await read('alice', 'b/SKILL.md')).toBe('one\n');
        for (const name of ['alice', 'bob']) expect(await read(name, 'cloned/SKILL.md')).toBe('two\n');
      });
      for (const name of ['alice', 'bob']) await plugset.untilReady(name);
    });
  });
});
