import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { PluginStatus } from '../../src/domain/status.ts';
import { eventually } from '../support/eventually.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

const WELL = ['a', 'b', 'c', 'd', 'e'];

describe('a plugin whose source takes every question and answers none', () => {
  let forge: Server;
  let plugset: Plugset;
  let home: string;

  beforeAll(async () => {
    forge = createServer(() => undefined);
    await new Promise<void>((resolve) => forge.listen(0, '127.0.0.1', resolve));
    const address = forge.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    plugset = await startPlugset({ store: { kind: 'files' }, config: { githubUrl: `http://127.0.0.1:${port}` } });
    home = join(plugset.dirs.root, 'alice');
    await mkdir(home);
    for (const name of WELL) await writePlugin(join(plugset.dirs.registry, name), { 'SKILL.md': `${name}\n` });
    await plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: {
          runtime: 'hermes',
          target: { directory: { path: home } },
          plugins: [
            { name: 'hung', source: 'github://team/hung#main' },
            ...WELL.map((name) => ({ name, source: name })),
          ],
        },
      },
      AbortSignal.timeout(60_000),
    );
  });
  afterAll(async () => {
    await plugset.stop();
    forge.closeAllConnections();
    forge.close();
  });

  const rowOf = (plugins: readonly PluginStatus[]) => plugins.find((plugin) => plugin.name === 'hung');

  it('leaves the other five converged, and waits by itself', async () => {
    const status = await plugset.until('alice', (now) => expect(now.summary).toBe('5/6'));
    expect((await readdir(join(home, 'plugins'))).toSorted()).toEqual(WELL);
    expect(rowOf(status.plugins)).toMatchObject({ state: 'Pending', reason: 'Progressing' });
    expect(rowOf(status.plugins)?.message).toContain('github://team/hung#main has not answered yet');
  });

  it('does not keep the others from being looked after', async () => {
    await writeFile(join(home, 'plugins/c/SKILL.md'), 'edited');
    await eventually(async () => expect(await readFile(join(home, 'plugins/c/SKILL.md'), 'utf8')).toBe('c\n'));
    expect(rowOf((await plugset.status('alice')).plugins)?.state, 'it hung all the while').toBe('Pending');
  });

  it('says why and since when, once the question was given up', async () => {
    const status = await plugset.until('alice', (now) => expect(rowOf(now.plugins)?.state).toBe('Failed'));
    expect(rowOf(status.plugins)).toMatchObject({ reason: 'SourceUnavailable' });
    expect(Date.parse(rowOf(status.plugins)?.since ?? '')).toBeGreaterThan(0);
    expect(status.summary).toBe('5/6');
  });
});
