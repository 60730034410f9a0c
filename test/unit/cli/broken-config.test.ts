import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { Config } from '../../../src/config.ts';
import type { OpenedStore } from '../../../src/stores.ts';
import { MemoryControllerState } from '../../support/memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../../support/memory-store.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { runInProcess, type CliRun } from '../../support/run-cli.ts';
import { tempDir } from '../../support/temp-dir.ts';

const HEAD = 'apiVersion: plugset.dev/v1alpha1\nkind: Configuration\n';

describe('commands that need the store alone, with a configuration that is wrong', () => {
  let path: string;
  let opened: Config | undefined;

  beforeEach(async () => {
    path = join(await tempDir(), 'plugset.yaml');
    opened = undefined;
    for (const name of ['PLUGSET_FILES', 'PLUGSET_STATE_DIR', 'DATABASE_URL']) vi.stubEnv(name, '');
  });
  afterEach(() => vi.unstubAllEnvs());

  async function run(text: string, ...argv: readonly string[]): Promise<CliRun> {
    await writeFile(path, text);
    const clock = new FakeClock();
    const store = {
      store: new MemoryWorkspaceStore(new MemoryStoreBackend(clock)),
      state: new MemoryControllerState(),
      leadership: { lastHolder: async () => undefined },
      close: async () => undefined,
    } as unknown as OpenedStore;
    const openStore = async (config: Config): Promise<OpenedStore> => {
      opened = config;
      return store;
    };
    return runInProcess([...argv, '--config', path], { clock, openStore });
  }

  const WRONG = `${HEAD}store: {files: w}\nlimits:\n  wrokers: 3\npolicy: {drift: Never}\nwhatever: 1\n`;

  it.each([['pause'], ['resume'], ['status']])('%s: works, and warns of every problem', async (command) => {
    const { code, stderr } = await run(WRONG, command);
    expect(code, stderr).toBe(0);
    expect(stderr).toContain(`warning: ${path}:5:3: limits.wrokers: unknown key`);
    expect(stderr).toContain(`${path}:6:17: policy.drift: must be one of`);
    expect(stderr).toContain(`${path}:7:1: whatever: unknown key`);
    expect(opened?.store).toMatchObject({ kind: 'files' });
    expect(opened?.policy, 'of a store of files, as if the section were not there').toMatchObject({
      deletion: 'Orphan',
    });
  });

  it('so does a variable or a flag that is wrong', async () => {
    vi.stubEnv('PLUGSET_WORKSPACE_METRICS', 'maybe');
    const { code, stderr } = await run(`${HEAD}store: {files: w}\n`, 'pause');
    expect(code).toBe(0);
    expect(stderr).toContain('PLUGSET_WORKSPACE_METRICS: must be true or false');
  });

  it.each([
    ['the store', `${HEAD}store: {flies: w}\n`, /store\.flies: unknown key/],
    ['the format', `apiVersion: plugset.dev/v2\nkind: Configuration\nstore: {files: w}\n`, /apiVersion: must be/],
  ])('are refused where %s cannot be told', async (_, text, problem) => {
    const { code, stderr } = await run(text, 'pause');
    expect(code).toBe(1);
    expect(stderr).toMatch(problem);
    expect(opened).toBeUndefined();
  });

  describe('and cannot be read at all', () => {
    const BROKEN = `${HEAD}store: {files: [\n`;

    it('say how to name the store; DATABASE_URL may be another than that of the file', async () => {
      vi.stubEnv('DATABASE_URL', 'postgres://h/d');
      const { code, stderr } = await run(BROKEN, 'pause');
      expect(code).toBe(1);
      expect(stderr).toMatch(/plugset\.yaml:\d+:\d+: [^]*--database URL, or --files DIR --state-dir DIR/);
      expect(opened).toBeUndefined();
    });

    it.each([
      ['--database', ['--database', 'postgres://h/d']],
      ['--files with its state', ['--files', '/w', '--state-dir', '/s']],
    ])('work with %s', async (_, store) => {
      const { code, stderr } = await run(BROKEN, 'pause', ...store);
      expect(code, stderr).toBe(0);
      expect(stderr).toMatch(/warning: .*plugset\.yaml:\d+:\d+: .*; this command does without it/);
      expect(opened).toBeDefined();
    });
  });

  it('what works on targets, or asks policy what becomes of them, takes no half a configuration', async () => {
    for (const command of [['plan'], ['once'], ['delete', 'alice']]) {
      const { code, stderr } = await run(WRONG, ...command);
      expect(code, command.join(' ')).toBe(1);
      expect(stderr).toContain('limits.wrokers: unknown key');
    }
  });
});
