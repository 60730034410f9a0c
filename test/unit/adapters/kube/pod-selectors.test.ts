import { describe, expect, it } from 'vitest';

import { PodSelectors } from '../../../../src/adapters/kube/pod-selectors.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const HOUR_MS = 3_600_000;

describe('the selectors of pods', () => {
  it('are known by namespace', () => {
    const selectors = new PodSelectors(new FakeClock());
    selectors.remember('one', { namespace: 'team-a', labels: { app: 'agent' } });
    selectors.remember('two', { namespace: 'team-b', labels: { app: 'agent' } });
    selectors.remember('three', { namespace: 'team-a', labels: { app: 'other' } });
    expect(selectors.addressesOf({ namespace: 'team-a', labels: { app: 'agent' } })).toEqual(['one']);
    expect(selectors.addressesOf({ namespace: 'team-c', labels: { app: 'agent' } })).toEqual([]);
  });

  it('are forgotten two hours after they were asked for last, also in a namespace where nobody asks', () => {
    const clock = new FakeClock();
    const selectors = new PodSelectors(clock);
    const labels = { app: 'agent' };
    const known = (): readonly string[] =>
      ['team-a', 'team-b', 'team-c'].flatMap((namespace) => selectors.addressesOf({ namespace, labels }));
    selectors.remember('living', { namespace: 'team-a', labels });
    selectors.remember('gone', { namespace: 'team-a', labels });
    selectors.remember('deserted', { namespace: 'team-b', labels });
    clock.tick(HOUR_MS);
    selectors.remember('living', { namespace: 'team-a', labels });
    selectors.remember('late', { namespace: 'team-c', labels });
    expect(known()).toEqual(['gone', 'living', 'deserted', 'late']);

    clock.tick(HOUR_MS);
    selectors.remember('living', { namespace: 'team-a', labels });
    expect(known()).toEqual(['living', 'late']);
  });
});
