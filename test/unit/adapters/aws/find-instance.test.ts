import { expect, it } from 'vitest';

import { findInstance, type Search } from '../../../../src/adapters/aws/find-instance.ts';
import type { InstanceBatch } from '../../../../src/adapters/aws/instance-batch.ts';
import { fits, type InstanceQuery } from '../../../../src/adapters/aws/instance-query.ts';
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
  return lookedForIn([{}], ...found);
}

/** The same where the operator has given the region in these entries. */
function lookedForIn(entries: Search['entries'], ...found: readonly Instance[]): Promise<Instance> {
  const workspace = workspaceAt({ ec2: { tags: ROLE } }, { name: 'alice' });
  const find = async (query: InstanceQuery) => found.filter((one) => fits(one, query));
  const batch = { find } as unknown as InstanceBatch;
  const rules = new InstanceRules({ tag: TAG, trustIds: false, instances: [] });
  const search: Search = { batch, region: 'eu-test-1', rules, workspace, entries, declared: { tags: ROLE } };
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

it('tells nobody of the instances of others, and says which tag is wanted', async () => {
  const lost = await lookedFor(instance('i-1', ROLE), instance('i-2', ROLE)).catch((error: unknown) => error);
  expect(lost).toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
  expect((lost as Error).message).not.toMatch(/i-[12]/);
  expect((lost as Error).message).toContain(`role=agent, ${TAG}=team-a/alice`);
});

it('takes its own only with the tags that are declared', async () => {
  const own = instance('i-1', { [TAG]: 'team-a/alice' });
  await expect(lookedFor(own)).rejects.toMatchObject({ reason: 'WorkspaceNotFound' });
});

it('finds only what has the tags that the operator demands, and tells nothing of what has not', async () => {
  const entries = [{ tags: { team: 'a', stage: 'test' } }, { tags: { team: 'shared' } }];
  const theirs = instance('i-1', { ...OWN, team: 'a', stage: 'live' });
  const shared = instance('i-2', { ...OWN, team: 'shared' });
  expect(await lookedForIn(entries, theirs, shared)).toMatchObject({ id: 'i-2' });
  const refused = await lookedForIn(entries, theirs).catch((error: unknown) => error);
  expect(refused).toMatchObject({ reason: 'TargetNotAllowed' });
  expect((refused as Error).message).toContain('targets.ec2.regions, tags');
  expect((refused as Error).message).not.toMatch(/i-1|live/);
});
