import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { transient } from '../../../src/domain/errors.ts';
import { DEFAULT_ACTIVATION } from '../../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../../src/domain/gate.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION } from '../../../src/domain/workspace.ts';
import type { PluginHost } from '../../../src/ports/plugin-host.ts';
import { createWorkshop } from '../../../src/workshop.ts';
import { writePlugin } from '../../support/plugset.ts';
import { createSmallWorld, type SmallWorld } from '../../support/small-world.ts';

const KEY = workspaceKey('default', 'alice');
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  probeIntervalMs: 1000,
  deepIntervalMs: HOUR,
  resolveIntervalMs: 0,
};

describe('the history of a workspace', () => {
  let world: SmallWorld;
  let home: string;

  beforeEach(async () => {
    world = await createSmallWorld();
    home = join(world.dirs.root, 'alice');
    await mkdir(home);
    await publish('v1.0.0');
  });
  afterEach(() => world.close());

  const publish = (version: string): Promise<void> =>
    writePlugin(join(world.dirs.registry, 'a'), { 'plugin.yaml': `name: a\nversion: ${version}\n` });
  const declare = (plugins: readonly string[]): void =>
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name: 'alice' },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: home } },
        plugins: plugins.map((name) => ({ name, source: name })),
      },
    });
  const pass = async (host: PluginHost = world.ports.host, signal = new AbortController().signal): Promise<void> => {
    const workshop = createWorkshop({ ...world.ports, host }, LIMITS, () => undefined);
    try {
      await workshop.reconciler.reconcile(KEY, { authority: 'us', epoch: 1, n: 1 }, signal);
    } finally {
      workshop.revisions.stop();
    }
  };
  const status = async (): Promise<WorkspaceStatus> => {
    const loaded = await world.ports.store.get(KEY, new AbortController().signal);
    if (loaded.kind !== 'found') throw new Error(loaded.kind);
    return loaded.status;
  };

  it('says in words and revisions what was done', async () => {
    declare(['a']);
    await pass();
    const before = (await status()).plugins[0]?.revision?.slice(0, 19);
    await publish('v1.1.0');
    await pass();
    const after = (await status()).plugins[0]?.revision?.slice(0, 19);
    await writeFile(join(home, 'plugins/a/plugin.yaml'), 'edited');
    await pass();
    declare([]);
    await pass();
    expect((await status()).history.map(({ summary, outcome }) => [summary, outcome])).toEqual([
      [`removed a v1.1.0 (${after})`, 'Succeeded'],
      [`restored a v1.1.0 (${after})`, 'Succeeded'],
      [`replaced a v1.0.0 (${before}) → v1.1.0 (${after})`, 'Succeeded'],
      [`installed a v1.0.0 (${before})`, 'Succeeded'],
    ]);
  });

  it('says what could not be done', async () => {
    declare(['a']);
    await mkdir(join(home, 'plugins'));
    const host: PluginHost = {
      observe: (...args) => world.ports.host.observe(...args),
      converge: async () => {
        throw transient('DiskFull', 'no space left');
      },
    };
    await expect(pass(host)).rejects.toMatchObject({ reason: 'DiskFull' });
    expect((await status()).history).toMatchObject([
      { outcome: 'Failed', summary: expect.stringMatching(/^could not install a v1\.0\.0 \(sha256:/) },
    ]);
  });

  it('does not know what came of a change that the deadline of the pass cut off', async () => {
    declare(['a']);
    await mkdir(join(home, 'plugins'));
    const deadline = new AbortController();
    const host: PluginHost = {
      observe: (...args) => world.ports.host.observe(...args),
      converge: (_place, _request, signal) => {
        deadline.abort(transient('PassTimeout', 'the pass did not end within 600 s'));
        return Promise.reject(signal.reason as Error);
      },
    };
    await expect(pass(host, deadline.signal)).rejects.toMatchObject({ reason: 'PassTimeout' });
    const { history, plugins } = await status();
    expect(history).toMatchObject([{ outcome: 'Unknown', summary: expect.stringMatching(/^began to install a v1/) }]);
    expect(plugins).toMatchObject([{ name: 'a', state: 'Unknown', reason: 'PassTimeout' }]);
  });
});
