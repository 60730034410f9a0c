import { describe, expect, it } from 'vitest';

import { planReload } from '../../../src/config/reload.ts';
import { settingsSchema, type Settings } from '../../../src/config/settings.ts';

function settings(rest: object): Settings {
  return settingsSchema.parse({ apiVersion: 'plugset.dev/v1alpha1', kind: 'Configuration', ...rest });
}

describe('a reload', () => {
  it('takes up what is safe, and keeps the rest for a restart', () => {
    const before = settings({ store: { files: '/a' }, limits: { workers: 2 } });
    const after = settings({
      store: { files: '/b' },
      limits: { workers: 3 },
      policy: { prune: 'Off' },
      telemetry: { logLevel: 'debug' },
    });
    const reload = planReload(before, after);
    expect(reload.applied).toEqual(['limits.workers', 'policy', 'policy.prune']);
    expect(reload.waiting).toEqual(['store.files', 'telemetry.logLevel']);
    expect(reload.settings).toEqual({ ...after, store: before.store, telemetry: before.telemetry });
  });

  it('sees a password change that is never shown', () => {
    const [before, after] = ['old', 'new'].map((word) =>
      settings({ store: { postgres: { url: `postgres://plugset:${word}@db/plugset` } } }),
    ) as [Settings, Settings];
    expect(planReload(before, after)).toMatchObject({ applied: [], waiting: ['store.postgres.url'] });
  });

  it('is nothing where nothing changed', () => {
    const same = settings({ store: { files: '/a' } });
    expect(planReload(same, structuredClone(same))).toEqual({ settings: same, applied: [], waiting: [] });
  });
});
