import { mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';
import type { Backends } from './converged-workspace.ts';
import { interleave, timed } from './measure.ts';
import { PLUGIN_NAMES, writePlugins } from './plugins.ts';
import { bareExec } from './raw-docker.ts';
import { millisecondsOver, type Row } from './table.ts';

const NAME = 'edited';
const EDITED = 'plugin-0';
/** Two contents that one plugin is switched between. */
const VERSIONS = ['edition-a', 'edition-b'] as const;

/**
 * From the commit of a row to the new tree in the container, with a whole daemon in this process. The config directory is
 * a bind mount of a directory of this machine, and the file is read there every millisecond: the container is left alone.
 */
export async function benchEditToDisk({ docker, postgres, containers }: Backends): Promise<readonly Row[]> {
  const configDir = await realpath(await mkdtemp(join(tmpdir(), 'plugset-bench-')));
  const database = await freshDatabase(postgres);
  const plugset = await startPlugset({
    store: { kind: 'postgres', url: database.url },
    config: { engines: [{ name: 'default', address: docker }], ...DAEMON_CLOCKS },
  });
  try {
    await writeSources(plugset);
    const container = await containers.create({
      image: 'debian',
      labels: { 'plugset.dev/workspace': `default/${NAME}` },
      host: { Binds: [`${configDir}:/configs`] },
    });
    await declare(database, (await container.inspect()).Name.slice(1));
    await plugset.untilReady(NAME);
    let edits = 0;
    const pairs = await interleave({
      async ours() {
        const version = VERSIONS[edits++ % 2] ?? VERSIONS[0];
        await plugset.untilReady(NAME);
        return timed(async () => {
          await database.sql('update plugset.plugins set source = $1 where name = $2', [version, EDITED]);
          await untilOnDisk(join(configDir, 'plugins', EDITED, 'README.md'), version);
        });
      },
      against: () => timed(() => bareExec(container, ['true'], true)),
    });
    const what = 'edit committed in Postgres to the plugin on disk, daemon with 10 plugins';
    return [millisecondsOver({ what, tier: 'deep', againstWhat: 'exec of true' }, pairs, 250)];
  } finally {
    await plugset.stop();
    await database.drop();
    await rm(configDir, { recursive: true, force: true });
  }
}

/** As a daemon has them by default: no pass of a clock falls into the measurement of an edit. */
const DAEMON_CLOCKS = {
  probeIntervalMs: 30_000,
  deepIntervalMs: 600_000,
  resolveIntervalMs: 60_000,
  logLevel: 'info',
} as const;

async function writeSources({ dirs }: Plugset): Promise<void> {
  await writePlugins(dirs.registry);
  for (const version of VERSIONS) {
    await writePlugin(join(dirs.registry, version), {
      'plugin.yaml': `name: ${EDITED}\nversion: 1.0.0\n`,
      'README.md': `# ${version}\n`,
      'skills/review/SKILL.md': 'x'.repeat(6_000),
      'skills/review/reference.md': 'y'.repeat(20_000),
      'hooks/start.sh': '#!/bin/sh\necho hi\n',
    });
  }
}

async function declare(database: FreshDatabase, container: string): Promise<void> {
  const insert = `insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', $2)`;
  await database.sql(insert, [NAME, { docker: { container } }]);
  const insertPlugins = `insert into plugset.plugins (workspace, name, source) select $1, name, name from unnest($2::text[]) name`;
  await database.sql(insertPlugins, [NAME, PLUGIN_NAMES]);
}

async function untilOnDisk(path: string, version: string): Promise<void> {
  const deadline = performance.now() + 30_000;
  // In the moment of the exchange there is no such file.
  while (!(await readFile(path, 'utf8').catch(() => '')).includes(version)) {
    if (performance.now() > deadline) throw new Error(`${path} did not become that of ${version}`);
    await pause(1);
  }
}
