import { expect, it } from 'vitest';

import { findInstance, type Search } from '../../../../src/adapters/aws/find-instance.ts';
import type { InstanceBatch } from '../../../../src/adapters/aws/instance-batch.ts';
import { InstanceRules } from '../../../../src/adapters/aws/instance-rules.ts';
import type { Instance } from '../../../../src/adapters/aws/instance.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const SIGNAL = new AbortController().signal;
const TAG = 'plugset.dev/workspace';
const ROLE = { role: 'agent' };

function instance(id: string, tags: Readonly<Record<string, string>>): Instance {
  const place = { vpcId: undefined, subnetId: undefined, ipv4: undefined, ipv6: undefined };
  return { id, state: 'running', launchedAtMs: 0, tags, ...place };
}

/** Looks for the instance of alice that carries certain tags, among these. */
function lookedFor(...found: readonly Instance[]): Promise<Instance> {
  const workspace = workspaceAt({ ec2: { tags: ROLE } }, { name: 'alice' });
  const batch = { find: async () => found } as unknown as InstanceBatch;
  const rules = new InstanceRules({ tag: TAG, trustIds: false, instances: [] });
  const search: Search = { batch, region: 'eu-test-1', rules, workspace, declared: { tags: ROLE } };
  return findInstance(search, SIGNAL);
}

const OWN = { ...ROLE, [TAG]: workspaceAt({ ec2: {} }, { name: 'alice' }).key };

it('finds its own among those that others have tagged alike', async () => {
  const others = [instance('i-1', ROLE), instance('i-2', { ...ROLE, [TAG]: 'team-b/bob' })];
  expect(await lookedFor(...others, instance('i-3', OWN))).toMatchObject({ id: 'i-3' });
  await expect(lookedFor(instance('i-3', OWN), instance('i-4', OWN))).rejects.toMatchObject({
    reason: 'TargetAmbiguous',
  });
});

it('lists nobody the instances of others', async () => {
  const lost = await lookedFor(instance('i-1', ROLE), instance('i-2', ROLE)).catch((error: unknown) => error);
  expect(lost).toMatchObject({ reason: 'TargetUnproven' });
  expect((lost as Error).message).not.toContain('i-2');
});
