import { setMaxListeners } from 'node:events';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';
import { Ec2Hosts } from '../support/ec2-host.ts';
import { workspaceAt } from '../support/workspaces.ts';

const NAMES = Array.from({ length: 200 }, (_, number) => `w${number}`);

await withBackend('machine', () => {
  let aws: FakeAws;
  beforeAll(async () => {
    aws = await FakeAws.start();
    await mapAtOnce(4, NAMES, (name) => aws.launch({ tags: { 'plugset.dev/workspace': `team-a/${name}` } }));
  });
  afterAll(() => aws.close());

  test('200 instances share one endpoint: all are reached, within its quota, and none waits long', async () => {
    const hosts = new Ec2Hosts(aws);
    const { signal } = new AbortController();
    // One signal for all of them is no leak.
    setMaxListeners(0, signal);
    const waits: number[] = [];
    // More at once than there are tunnels, and more than a daemon works on.
    await mapAtOnce(24, NAMES, async (name) => {
      const askedAt = performance.now();
      const target = await hosts.provider.locate(workspaceAt({ ec2: {} }, { name }), signal);
      for (let round = 0; round < 3; round += 1) {
        const result = await target.run(['true'], { as: 'observer', deadlineMs: 60_000, signal });
        expect(result).toMatchObject({ kind: 'exited', code: 0 });
        if (round === 0) waits.push(performance.now() - askedAt);
      }
    });
    const [endpoint] = aws.endpoints;
    if (endpoint === undefined) throw new Error('no endpoint');
    expect(aws.tunnels.peakAt(endpoint)).toBe(16);
    expect(waits).toHaveLength(200);
    const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
    expect(Math.max(...waits)).toBeLessThanOrEqual(3 * mean);
    // One login each, and AWS was asked for all of them together.
    expect(aws.count('SendSSHPublicKey')).toBeLessThan(250);
    expect(aws.count('DescribeInstances')).toBeLessThan(NAMES.length);
    await hosts.close();
  });
});
