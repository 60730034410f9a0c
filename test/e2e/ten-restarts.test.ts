import { createHash } from 'node:crypto';
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { openApp } from '../../src/app.ts';
import type { Config } from '../../src/config.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin } from '../support/plugset.ts';
import { RecordingLogger } from '../support/recording-logger.ts';

const NEVER = 600_000;
const DIRECTORIES = ['one', 'two', 'three'];
const CONTAINER = 'restarted-often';

/** The budget is used up by the one restart that is allowed, and a change waits for the next hour of it. */
await withBackend('docker', (engine) =>
  withBackend('postgres', (postgres) => {
    it('a controller that is started ten times in a row restarts nobody, forgets no budget and writes on no target', async () => {
      const containers = new TestContainers(engine);
      const database = await freshDatabase(postgres);
      const plugset = await startPlugset({
        store: { kind: 'postgres', url: database.url },
        config: {
          engines: [{ name: 'default', address: engine }],
          profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
          activation: { quietMs: 100, patienceMs: 1_000, perHour: 1 },
          probeIntervalMs: NEVER,
          deepIntervalMs: NEVER,
        },
        idle: true,
      });
      try {
        const { registry, root } = plugset.dirs;
        for (const plugin of ['greeter', 'notes'])
          await writePlugin(join(registry, plugin), { 'SKILL.md': `${plugin}\n` });
        const container = await containers.create({ labels: { 'plugset.dev/workspace': `default/${CONTAINER}` } });
        for (const name of DIRECTORIES) await writePlugin(join(root, name), { 'notes.txt': 'a note of the user\n' });
        await declare(database, root);
        const startedAt = async (): Promise<string> => (await container.inspect()).State.StartedAt;
        const first = await startedAt();

        await running(plugset.config, async () => {
          for (const name of [...DIRECTORIES, CONTAINER]) await plugset.untilReady(name);
          await eventually(async () => expect(await startedAt()).not.toBe(first));
          await database.sql(
            `insert into plugset.plugins (workspace, name, source) select name, 'notes', 'notes' from plugset.workspaces`,
          );
          for (const name of [...DIRECTORIES, CONTAINER]) await plugset.untilReady(name);
          await plugset.until(CONTAINER, ({ conditions }) =>
            expect(findCondition(conditions, 'ActivationPending')?.reason).toBe('RestartDeferred'),
          );
        });
        const world = async () => ({
          startedAt: await startedAt(),
          trees: await Promise.all(DIRECTORIES.map((name) => fingerprint(join(root, name)))),
          inContainer: await containers.exec(container, ['sh', '-c', IN_CONTAINER]),
          documents: await database.sql(
            `select key, value from plugset.controller_state where key like 'activation/%'`,
          ),
          statuses: await database.sql(
            'select namespace, name, status, updated_at from plugset.workspace_status order by namespace, name',
          ),
        });
        const before = await world();
        expect(before.documents).toHaveLength(1);

        for (let start = 0; start < 10; start++) {
          await running(plugset.config, async (looked) => eventually(async () => expect(await looked()).toBe(4)));
        }
        expect(await world()).toEqual(before);
      } finally {
        await plugset.stop();
        await containers.removeAll();
        await database.drop();
      }
    });
  }),
);

/** Everything below a config directory, times included: even an equal file that was written anew shows. */
const IN_CONTAINER = `cd /configs && find . -exec stat -c '%n %i %a %s %Y %Z' {} + | sort`;

async function declare(database: FreshDatabase, root: string): Promise<void> {
  const insert = `insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', $2)`;
  for (const name of DIRECTORIES) await database.sql(insert, [name, { directory: { path: join(root, name) } }]);
  await database.sql(insert, [CONTAINER, { docker: {} }]);
  await database.sql(
    `insert into plugset.plugins (workspace, name, source) select name, 'greeter', 'greeter' from plugset.workspaces`,
  );
}

/** A controller of its own, from its start to its orderly end; `work` can ask how many deep looks it has made. */
async function running(config: Config, work: (looked: () => Promise<number>) => Promise<unknown>): Promise<void> {
  const app = await openApp(config, new RecordingLogger());
  const stop = new AbortController();
  let listening: (url: string) => void = () => undefined;
  const url = new Promise<string>((resolve) => (listening = resolve));
  const ended = app.run(stop.signal, { onListening: listening });
  try {
    await work(async () => {
      const body = await (await fetch(`${await url}/metrics`)).text();
      return Number(/^plugset_looks_total\{tier="deep",outcome="looked"\} (\d+)/m.exec(body)?.[1]);
    });
  } finally {
    stop.abort(new Error('enough'));
    await ended;
    await app.close();
  }
}

/** Digest over path, mode, inode, times and content of everything below a directory. */
async function fingerprint(directory: string): Promise<string> {
  const hash = createHash('sha256');
  const paths = (await readdir(directory, { recursive: true })).toSorted();
  for (const path of paths) {
    const { mode, ino, mtimeMs, ctimeMs } = await lstat(join(directory, path));
    hash.update(JSON.stringify([path, mode, ino, mtimeMs, ctimeMs]));
    const isFile = (mode & 0o170000) === 0o100000;
    if (isFile) hash.update(await readFile(join(directory, path)));
  }
  return hash.digest('hex');
}
