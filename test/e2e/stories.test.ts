import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { startPlugset, type Plugset, type PlugsetOptions } from '../support/plugset.ts';
import { tellStory, type StoryStage, type StoryStore, type StoryTarget } from './story.ts';

/** A workspace as a YAML file. Deletion has to be asked for: a file that vanishes orphans its workspace. */
function inFiles(plugset: Plugset): StoryStore {
  const path = (name: string): string => join(plugset.dirs.files, `${name}.yaml`);
  return {
    declare: async (name, target, plugins) => {
      const spec = {
        runtime: 'claude-code',
        target,
        plugins: Object.entries(plugins).map(([plugin, source]) => ({ name: plugin, source })),
        policy: { deletion: 'Remove' },
      };
      await writeFile(
        path(name),
        JSON.stringify({ apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name }, spec }),
      );
    },
    remove: async (name) => {
      // A directory that is suddenly empty would be taken for a mistake.
      const neighbour = { runtime: 'hermes', target: { external: {} }, plugins: [] };
      const head = { apiVersion: 'plugset.dev/v1alpha1', kind: 'Workspace', metadata: { name: 'neighbour' } };
      await writeFile(path('neighbour'), JSON.stringify({ ...head, spec: neighbour }));
      await rm(path(name));
    },
  };
}

/** The same as rows, in one transaction, as a person with psql writes it. */
async function inPostgres(
  serverUrl: string,
): Promise<{ options: PlugsetOptions['store']; store: StoryStore; drop(): Promise<void> }> {
  const database = await freshDatabase(serverUrl);
  const store: StoryStore = {
    declare: async (name, target, plugins) => {
      await database.sql('begin');
      await database.sql(
        `insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', $2) on conflict do nothing`,
        [name, target],
      );
      await database.sql('delete from plugset.plugins where workspace = $1 and name <> all ($2)', [
        name,
        Object.keys(plugins),
      ]);
      for (const [plugin, source] of Object.entries(plugins)) {
        await database.sql(
          `insert into plugset.plugins (workspace, name, source) values ($1, $2, $3)
           on conflict (namespace, workspace, name) do update set source = excluded.source`,
          [name, plugin, source],
        );
      }
      await database.sql('commit');
    },
    remove: async (name) => void (await database.sql('delete from plugset.workspaces where name = $1', [name])),
  };
  return { options: { kind: 'postgres', url: database.url }, store, drop: () => database.drop() };
}

async function directory(plugset: Plugset): Promise<StoryTarget> {
  const home = join(plugset.dirs.root, 'storyteller');
  await mkdir(home);
  return {
    spec: { directory: { path: home } },
    plugins: async () => (await readdir(join(home, 'plugins'))).toSorted(),
    read: (path) => readFile(join(home, path), 'utf8').catch(() => undefined),
    write: async (path, content) => {
      await mkdir(dirname(join(home, path)), { recursive: true });
      await writeFile(join(home, path), content);
    },
    remove: (path) => rm(join(home, path), { recursive: true }),
  };
}

async function container(containers: TestContainers, image: 'busybox' | 'debian'): Promise<StoryTarget> {
  // A name of its own: test files share one engine, and a label names a workspace to every plugset that looks there.
  const labels = { 'plugset.dev/workspace': 'default/storyteller' };
  const made = await containers.create({ image, labels });
  const sh = (script: string, ...args: string[]): Promise<string> =>
    containers.exec(made, ['sh', '-c', script, 'sh', ...args]);
  return {
    spec: { docker: {} },
    plugins: async () => (await sh('ls /configs/plugins')).split('\n').filter((line) => line !== ''),
    read: (path) => sh('cat "/configs/$1"', path).catch(() => undefined),
    write: async (path, content) =>
      void (await sh('mkdir -p "$(dirname "/configs/$1")"; printf %s "$2" >"/configs/$1"', path, content)),
    remove: async (path) => void (await sh('rm -r "/configs/$1"', path)),
  };
}

async function stageOf(
  options: PlugsetOptions,
  storeOf: (plugset: Plugset) => StoryStore,
  targetOf: (plugset: Plugset) => Promise<StoryTarget>,
  close: () => Promise<void> = async () => undefined,
): Promise<StoryStage> {
  const plugset = await startPlugset(options);
  const target = await targetOf(plugset);
  const end = async (): Promise<void> => {
    await plugset.stop();
    await close();
  };
  return { plugset, store: storeOf(plugset), target, close: end };
}

tellStory('a directory declared in files', () => stageOf({ store: { kind: 'files' } }, inFiles, directory));

await withBackend('postgres', (serverUrl) => {
  tellStory('a directory declared in Postgres', async () => {
    const { options, store, drop } = await inPostgres(serverUrl);
    return stageOf({ store: options }, () => store, directory, drop);
  });
});

await withBackend('docker', async (engine) => {
  const config = { engines: [{ name: 'default', address: engine }] };

  tellStory('a Debian container declared in files', async () => {
    const containers = new TestContainers(engine);
    const close = (): Promise<void> => containers.removeAll();
    return stageOf({ store: { kind: 'files' }, config }, inFiles, () => container(containers, 'debian'), close);
  });

  await withBackend('postgres', (serverUrl) => {
    tellStory('a busybox container declared in Postgres', async () => {
      const containers = new TestContainers(engine);
      const { options, store, drop } = await inPostgres(serverUrl);
      const close = async (): Promise<void> => {
        await containers.removeAll();
        await drop();
      };
      return stageOf(
        { store: options, config },
        () => store,
        () => container(containers, 'busybox'),
        close,
      );
    });
  });
});
