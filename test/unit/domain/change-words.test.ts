import { describe, expect, it } from 'vitest';

import { describeChange, type ChangeOutcome } from '../../../src/domain/change-words.ts';
import { sha256 } from '../../../src/domain/digest.ts';
import type { PluginName } from '../../../src/domain/name.ts';
import type { PlanEntry } from '../../../src/domain/plan.ts';

const OLD = { revision: '0123456789abcdef0123456789abcdef01234567', version: 'v1.0.0' };
const NEW = { revision: '89abcdef0123456789abcdef0123456789abcdef', version: 'v1.1.0' };

function words(action: PlanEntry['action'], labels: PlanEntry['labels'], outcome: ChangeOutcome = 'done'): string {
  const digests = { from: sha256('old'), to: sha256('new') };
  const entry = { plugin: 'a' as PluginName, cause: 'intentional', origin: '', differing: [] } as const;
  return describeChange({ action, ...entry, ...digests, labels }, outcome);
}

describe('describeChange', () => {
  it.each<[string, string]>([
    [words('install', { to: NEW }), 'installed a v1.1.0 (89abcdef0123)'],
    [words('replace', { from: OLD, to: NEW }), 'replaced a v1.0.0 (0123456789ab) → v1.1.0 (89abcdef0123)'],
    [words('restore', { from: OLD, to: OLD }), 'restored a v1.0.0 (0123456789ab)'],
    [words('adopt', { from: { version: 'v1.1.0' }, to: NEW }), 'adopted a v1.1.0 (89abcdef0123)'],
    [words('remove', { from: OLD }), 'removed a v1.0.0 (0123456789ab)'],
    [words('replace', { from: { isForeign: true }, to: NEW }), "replaced a (not plugset's) → v1.1.0 (89abcdef0123)"],
    [words('remove', { from: { version: 'v0.9', isForeign: true } }), "removed a v0.9 (not plugset's)"],
    [words('install', { to: { revision: 'main' } }), 'installed a main'],
    [words('remove', {}), `removed a ${sha256('old').slice(0, 19)}`],
    [words('install', { to: NEW }, 'failed'), 'could not install a v1.1.0 (89abcdef0123)'],
    [words('remove', { from: OLD }, 'unknown'), 'began to remove a v1.0.0 (0123456789ab)'],
  ])('%s', (actual, expected) => expect(actual).toBe(expected));

  it('says no more of a directory that bears nothing', () => {
    const entry = { plugin: 'a' as PluginName, cause: 'intentional', origin: '', differing: [], labels: {} } as const;
    expect(describeChange({ action: 'remove', ...entry }, 'done')).toBe('removed a');
  });
});
