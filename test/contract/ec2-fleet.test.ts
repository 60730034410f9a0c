import { setMaxListeners } from 'node:events';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { mapAtOnce } from '../../src/ports/map-at-once.ts';
import { FakeAws } from '../support/aws/fake-aws.ts';
import { withBackend } from '../support/backend.ts';
import { Ec2Hosts } from '../support/ec2-host.ts';
import { workspaceAt } from '../support/workspaces.ts';

/** More at once than there are tunnels, and more than a daemon works on. */
const AT_ONCE = 24;
const ROUNDS = 3;
const NAMES = Array.from({ length: 200 }, (_, number) => `w${number}`);

await withBackend('machine', () => {
  let aws: FakeAws;
  beforeAll(async () => {
    aws = await FakeAws.start();
    await mapAtOnce(4, NAMES, (name) => aws.launch({ tags: { 'plugset.dev/workspace': `team-a/${name}` } }));
  });
  afterAll(() => aws.close());

  test('200 instances share one endpoint: all are reached, within its quota, and none is passed over', async () => {
    const hosts = new Ec2Hosts(aws);
    const { signal } = new AbortController();
    // One signal for all of them is no leak.
    setMaxListeners(0, signal);
    let served = 0;
    const overtaken: number[] = [];
    await mapAtOnce(AT_ONCE, NAMES, async (name) => {
      const servedBefore = served;
      const target = await hosts.provider.locate(workspaceAt({ ec2: {} }, { name }), signal);
      for (let round = 0; round < ROUNDS; round += 1) {
        const result = await target.run(['true'], { as: 'observer', deadlineMs: 60_000, signal });
        expect(result).toMatchObject({ kind: 'exited', code: 0 });
        if (round === 0) overtaken.push(served++ - servedBefore);
      }
    });
    const [endpoint] = aws.endpoints;
    if (endpoint === undefined) throw new Error('no endpoint');
    expect(aws.tunnels.peakAt(endpoint)).toBe(16);
    expect(overtaken).toHaveLength(NAMES.length);
    // In the order in which they asked, but for those whose logins go on side by side.
    expect(Math.max(...overtaken)).toBeLessThanOrEqual(2 * AT_ONCE);
    // One login each where nobody waits so long that idle tunnels are called in; and AWS was asked for all of them together.
    expect(aws.count('SendSSHPublicKey')).toBeLessThan(NAMES.length * ROUNDS);
    expect(aws.count('DescribeInstances')).toBeLessThan(NAMES.length);
    await hosts.close();
  });
});
