import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { eventually } from '../support/eventually.ts';
import { GitHttp } from '../support/git-http.ts';
import { GitRepo } from '../support/git-repo.ts';
import { startPlugset } from '../support/plugset.ts';
import { tempDir } from '../support/temp-dir.ts';

it('I-38: a branch that moved runs after the interval; with the forge down it goes on running, and the status says since when', async () => {
  const root = await tempDir();
  const http = await GitHttp.start({ root });
  const repo = await GitRepo.create(join(root, 'team/demo'));
  await repo.commit({ 'SKILL.md': 'A\n' });
  const plugset = await startPlugset({ store: { kind: 'files' }, config: { githubUrl: http.url } });
  try {
    const home = join(plugset.dirs.root, 'alice');
    const content = (): Promise<string> => readFile(join(home, 'plugins/demo/SKILL.md'), 'utf8');
    await mkdir(home);
    await plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: {
          runtime: 'hermes',
          target: { directory: { path: home } },
          plugins: [{ name: 'demo', source: 'github://team/demo#main' }],
        },
      },
      AbortSignal.timeout(60_000),
    );
    await eventually(async () => expect(await content()).toBe('A\n'));
    await repo.commit({ 'SKILL.md': 'B\n' });
    await eventually(async () => expect(await content()).toBe('B\n'));

    const before = Date.now();
    await http.stop();
    const status = await plugset.until('alice', (now) =>
      expect(now.plugins).toMatchObject([{ name: 'demo', state: 'Installed', reason: 'SourceUnavailable' }]),
    );
    expect(status.plugins[0]?.message).toContain('the installed revision stands');
    expect(Date.parse(status.plugins[0]?.since ?? '')).toBeGreaterThanOrEqual(before);
    expect(findCondition(status.conditions, 'Ready')?.status).toBe('True');
    expect(await content()).toBe('B\n');
  } finally {
    await plugset.stop();
    await http.stop();
  }
});
