import { join } from 'node:path';

import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import { describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase } from '../support/fresh-database.ts';
import { startPlugset, writePlugin } from '../support/plugset.ts';

const SIZE = 50;
const AT_ONCE = 4;
const NAMES = Array.from({ length: SIZE }, (_, index) => `observed-${index}`);

/** Everything below a directory: names, links, content, and of each inode number, mode, owner and all times but that of reading. */
const checksumOf = (directory: string): string =>
  `cd ${directory} && { find . -exec stat -c '%N %i %f %u %g %s %Y %Z' {} +; find . -type f -exec sha256sum {} +; } | sort | sha256sum`;

async function filledByHand(): Promise<Buffer> {
  const archive = pack();
  const files = {
    'plugins/equal/SKILL.md': 'equal\n',
    'plugins/other/SKILL.md': 'edited by hand\n',
    'plugins/mine/SKILL.md': 'nobody knows from where\n',
  };
  for (const [name, content] of Object.entries(files)) archive.entry({ name, mtime: new Date(0) }, content);
  archive.finalize();
  const chunks: Uint8Array[] = [];
  for await (const chunk of archive) chunks.push(chunk as Uint8Array);
  return Buffer.concat(chunks);
}

await withBackend('docker', async (engine) => {
  await withBackend('postgres', (serverUrl) => {
    describe('a fleet of 50 containers with plugins that nobody has receipts for', () => {
      it('is not touched while observed; then equal trees are adopted in place, others left, nothing restarted', async () => {
        const database = await freshDatabase(serverUrl);
        const containers = new TestContainers(engine);
        const made = new Map<string, Docker.Container>();
        const plugset = await startPlugset({
          store: { kind: 'postgres', url: database.url },
          config: {
            engines: [{ name: 'default', address: engine }],
            policy: { ...DEFAULT_POLICY, mode: 'Observe' },
            profiles: BUILT_IN_PROFILES.map((profile) => ({ ...profile, bootMs: 0 })),
            activation: { quietMs: 100, patienceMs: 100, perHour: 3 },
            probeIntervalMs: 1_000,
          },
        });
        try {
          for (const name of ['equal', 'other', 'fresh'])
            await writePlugin(join(plugset.dirs.registry, name), { 'SKILL.md': `${name}\n` });
          const content = await filledByHand();
          await mapAtOnce(AT_ONCE, NAMES, async (name) => {
            const container = await containers.create({ labels: { 'plugset.dev/workspace': `default/${name}` } });
            await container.putArchive(content, { path: '/configs' });
            made.set(name, container);
          });
          /** In the order of NAMES, whatever order they were asked in. */
          const ofEach = async (ask: (container: Docker.Container) => Promise<string>): Promise<readonly unknown[]> => {
            const answers = new Map<string, string>();
            await mapAtOnce(AT_ONCE, [...made], async ([name, one]) => void answers.set(name, await ask(one)));
            return NAMES.map((name) => answers.get(name));
          };
          const checksums = (directory: string) =>
            ofEach((container) => containers.exec(container, ['sh', '-euc', checksumOf(directory)]));
          // What the engine says that differs from the image: a file that was left in /tmp shows too.
          const changes = () =>
            ofEach(async (container) => {
              const changed = ((await container.changes()) ?? []) as { Kind: number; Path: string }[];
              return changed
                .map(({ Kind, Path }) => `${Kind} ${Path}`)
                .toSorted()
                .join('\n');
            });
          const starts = () => ofEach(async (container) => (await container.inspect()).State.StartedAt);
          const world = async () => ({
            configs: await checksums('/configs'),
            changes: await changes(),
            starts: await starts(),
          });
          const before = await world();
          const trees = await checksums('/configs/plugins');

          await database.sql(
            `insert into plugset.workspaces (name, runtime, target) select n, 'claude-code', '{"docker": {}}' from unnest($1::text[]) n`,
            [NAMES],
          );
          await database.sql(
            `insert into plugset.plugins (workspace, name, source)
             select n, p, p from unnest($1::text[]) n cross join unnest('{equal,other}'::text[]) p`,
            [NAMES],
          );
          const untilAll = async (check: Parameters<typeof plugset.until>[1]): Promise<void> => {
            for (const name of NAMES) await plugset.until(name, check);
          };
          await untilAll(({ plugins, conditions }) => {
            expect(findCondition(conditions, 'Reachable')?.status).toBe('True');
            expect(plugins).toMatchObject([
              { name: 'mine', state: 'Unmanaged' },
              { name: 'equal', reason: 'ObserveOnly' },
              { name: 'other', reason: 'NameTaken' },
            ]);
          });
          expect(await world()).toEqual(before);

          plugset.app.reconfigure({ ...plugset.config, policy: DEFAULT_POLICY });
          await untilAll(({ plugins }) =>
            expect(plugins).toMatchObject([
              { name: 'mine', state: 'Unmanaged', managed: false },
              { name: 'equal', state: 'Installed', managed: true },
              { name: 'other', state: 'Failed', reason: 'NameTaken', managed: false },
            ]),
          );
          await mapAtOnce(AT_ONCE, NAMES, async (name) => void (await plugset.requested(name)));
          // What was equal is the very file that lay there, and what differs or is nobody's is as it was.
          expect(await checksums('/configs/plugins')).toEqual(trees);
          expect(await starts()).toEqual(before.starts);

          // And it is alive: what is new is installed.
          await database.sql(`insert into plugset.plugins (workspace, name, source) values ($1, 'fresh', 'fresh')`, [
            NAMES[0],
          ]);
          const first = made.get(NAMES[0] ?? '');
          if (first === undefined) throw new Error('no container was made');
          await eventually(async () =>
            expect(await containers.exec(first, ['cat', '/configs/plugins/fresh/SKILL.md'])).toBe('fresh\n'),
          );
        } finally {
          await plugset.stop();
          await containers.removeAll();
          await database.drop();
        }
      }, 240_000);
    });
  });
});
