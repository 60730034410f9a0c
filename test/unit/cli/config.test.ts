import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, describe, expect, it, vi } from 'vitest';
import { parse } from 'yaml';

import { runInProcess } from '../../support/run-cli.ts';
import { tempDir } from '../../support/temp-dir.ts';

describe('plugset config', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('prints every setting and where it was given, and no password', async () => {
    const path = join(await tempDir(), 'plugset.yaml');
    await writeFile(
      path,
      'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\nlimits:\n  workers: 3\nstore: {postgres: {}}\n',
    );
    vi.stubEnv('DATABASE_URL', 'postgres://ann:hunter2@db/plugset?sslpassword=hunter2');
    const { code, stdout } = await runInProcess(['config', '--config', path, '--grace', '5']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^limits.workers +3 +live +${path}:4$`, 'm'));
    expect(stdout).toMatch(/^limits\.grace +5s +live +--grace$/m);
    expect(stdout).toMatch(/^limits\.probeInterval +30s +live +default$/m);
    expect(stdout).toMatch(/^store\.postgres\.url +postgres:\/\/ann:\*\*\*@db\/plugset\?\S+ +restart +DATABASE_URL$/m);
    expect(stdout).not.toContain('hunter2');
  });

  it('shows where it remembers what files declare, and for which files that is', async () => {
    const dirOf = async (...argv: readonly string[]): Promise<readonly string[]> => {
      const { stdout } = await runInProcess(['config', ...argv]);
      return stdout.split('\n').filter((line) => line.startsWith('store.stateDirectory'));
    };
    const shown =
      /^store\.stateDirectory +\S+\/\.local\/state\/plugset\/w-[0-9a-f]{12} +restart +default, for this store\.files$/;
    expect(await dirOf('--files', '/srv/w')).toEqual([expect.stringMatching(shown)]);
    expect(await dirOf('--files', '/other/w')).not.toEqual(await dirOf('--files', '/srv/w'));
    expect(await dirOf('--files', '/srv/w', '--state-dir', '/s')).toEqual([
      expect.stringMatching(/ \/s +restart +--state-dir$/),
    ]);
    expect(await dirOf('--database', 'postgres://h/d'), 'a database keeps its own').toEqual([]);
  });

  it('prints a file that reads back as the same settings', async () => {
    const first = await runInProcess(['config', '--files', '/w', '--root', '/srv', '-o', 'yaml']);
    const path = join(await tempDir(), 'plugset.yaml');
    await writeFile(path, first.stdout);
    const second = await runInProcess(['config', '--config', path, '-o', 'yaml']);
    expect(parse(second.stdout)).toEqual(parse(first.stdout));
    expect(parse(first.stdout)).toMatchObject({ store: { files: '/w' }, policy: { deletion: 'Orphan' } });
  });

  it('ends with 1 and every problem when a setting cannot be used', async () => {
    const { code, stderr } = await runInProcess(['config', '--workers', '0', '--lease', 'soon']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/--workers: must be a whole number/);
    expect(stderr).toMatch(/--lease: must be a duration/);
  });
});
