import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, describe, expect, it } from 'vitest';

import { findCondition } from '../../src/domain/condition.ts';
import { startPlugset, writePlugin, type Plugset } from '../support/plugset.ts';

/** What an operator changes in the file takes effect in the running daemon. */
describe('settings that change under a running daemon', () => {
  let plugset: Plugset | undefined;
  afterEach(async () => {
    await plugset?.stop();
  });

  it('hold from then on, for what was refused before as well; the lease is kept', async () => {
    plugset = await startPlugset({ store: { kind: 'files' } });
    const elsewhere = join(plugset.dirs.git, 'alice');
    await mkdir(elsewhere);
    await writePlugin(join(plugset.dirs.registry, 'one'), { 'SKILL.md': 'one\n' });
    await plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: {
          runtime: 'hermes',
          target: { directory: { path: elsewhere } },
          plugins: [{ name: 'one', source: 'one' }],
        },
      },
      AbortSignal.timeout(60_000),
    );
    await plugset.until('alice', (status) =>
      expect(findCondition(status.conditions, 'Ready')).toMatchObject({ reason: 'TargetNotAllowed' }),
    );

    plugset.app.reconfigure({ ...plugset.config, roots: [{ path: plugset.dirs.git }] });
    await plugset.untilReady('alice');

    // A policy of the fleet holds for what says nothing itself.
    plugset.app.reconfigure({
      ...plugset.config,
      roots: [{ path: plugset.dirs.git }],
      policy: { ...plugset.config.policy, prune: 'Off' },
    });
    await plugset.app.store.apply(
      {
        apiVersion: 'plugset.dev/v1alpha1',
        kind: 'Workspace',
        metadata: { name: 'alice' },
        spec: { runtime: 'hermes', target: { directory: { path: elsewhere } }, plugins: [] },
      },
      AbortSignal.timeout(60_000),
    );
    await plugset.until('alice', (status) => expect(status.plugins).toMatchObject([{ name: 'one', state: 'Held' }]));
  });
});
