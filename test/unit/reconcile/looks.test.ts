import { describe, expect, it } from 'vitest';

import { BUILT_IN_PROFILES, type RuntimeProfile } from '../../../src/domain/profile.ts';
import { EMPTY_STATUS } from '../../../src/domain/status.ts';
import type { HostPlace, PluginHost } from '../../../src/ports/plugin-host.ts';
import type { ProbeResult } from '../../../src/ports/workspace-target.ts';
import { Looks } from '../../../src/reconcile/looks.ts';
import { beginPass } from '../../../src/reconcile/pass.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';
import { workspaceAt } from '../../support/workspaces.ts';

function setUp(answer: ProbeResult) {
  const logger = new RecordingLogger();
  const metrics = recordingMetrics();
  const never: PluginHost = {
    observe: () => Promise.reject(new Error('a probe looks at nothing')),
    converge: () => Promise.reject(new Error('a probe changes nothing')),
  };
  const looks = new Looks({ host: never, clock: new FakeClock(), metrics, deepIntervalMs: 60_000 });
  const workspace = workspaceAt({ directory: { path: '/srv/alice' } });
  const pass = beginPass({ kind: 'found', workspace, status: EMPTY_STATUS }, new AbortController().signal, logger);
  const place: HostPlace = {
    target: {
      identity: 'directory:1:2',
      description: 'directory /srv/alice',
      run: () => Promise.reject(new Error('a probe runs nothing')),
      probe: async () => answer,
    },
    configDir: '.',
    profile: BUILT_IN_PROFILES[0] as RuntimeProfile,
  };
  return { probed: looks.probe(pass, place), logger, metrics };
}

describe('a probe', () => {
  it('that gives a token is that token', async () => {
    const { probed, metrics } = setUp({ kind: 'token', token: 'one' });
    expect(await probed).toEqual({ kind: 'token', token: 'one' });
    expect(metrics.argsOf('looked')).toEqual([]);
  });

  it('that sees nothing of ours is counted too: where it is wrong, every pass looks deep', async () => {
    const { probed, metrics } = setUp({ kind: 'blank' });
    expect(await probed).toEqual({ kind: 'blank' });
    expect(metrics.argsOf('looked')).toEqual([['probe', 'unknown']]);
  });

  it('that fails is counted and says why, since nothing else shows that every pass looks deep', async () => {
    const cause = new Error('EIO');
    const { probed, logger, metrics } = setUp({ kind: 'unknown', cause });
    expect(await probed).toEqual({ kind: 'unknown', cause });
    expect(metrics.argsOf('looked')).toEqual([['probe', 'unknown']]);
    expect(logger.lines).toMatchObject([{ level: 'debug', fields: { error: cause } }]);
  });

  it('that cannot be had is nothing to speak of', async () => {
    const { probed, logger, metrics } = setUp({ kind: 'unsupported' });
    expect(await probed).toEqual({ kind: 'unsupported' });
    expect([...metrics.argsOf('looked'), ...logger.lines]).toEqual([]);
  });
});
