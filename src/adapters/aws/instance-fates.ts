import type { TargetFate } from '../../ports/workspace-target.ts';
import type { AwsRegion } from './aws-region.ts';
import { instanceAddress } from './instance-address.ts';
import { filtersOf, perRequest } from './instance-query.ts';

/**
 * What became of instances of a region, by their addresses. Few requests for many, and none of its answers is kept: this is
 * asked once in an hour. Throws what {@link AwsRegion.instances} throws: an id that AWS did not answer for is not missing.
 */
export async function instanceFates(
  region: AwsRegion,
  instanceIds: readonly string[],
  signal: AbortSignal,
): Promise<ReadonlyMap<string, TargetFate>> {
  const fates = new Map<string, TargetFate>();
  for (const asked of perRequest(instanceIds.map((instanceId) => ({ query: { instanceId } })))) {
    const found = await region.instances(filtersOf(asked.map(({ query }) => query)), signal);
    const states = new Map(found.map(({ id, state }) => [id, state]));
    for (const { query } of asked) {
      const state = states.get(query.instanceId);
      const fate = state === undefined ? 'missing' : state === 'terminated' ? 'ended' : 'there';
      fates.set(instanceAddress(region.name, query.instanceId), fate);
    }
  }
  return fates;
}
