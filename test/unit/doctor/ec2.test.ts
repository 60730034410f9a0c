import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { SystemClock } from '../../../src/adapters/system/clock.ts';
import { runChecks } from '../../../src/doctor/check.ts';
import type { Declarations } from '../../../src/doctor/declarations.ts';
import { ec2Checks } from '../../../src/doctor/ec2.ts';
import { DEFAULT_EC2_ACCESS } from '../../../src/domain/access.ts';
import { FakeAws } from '../../support/aws/fake-aws.ts';
import type { FakeInstance } from '../../support/aws/fake-instance.ts';

describe('ec2Checks', () => {
  let aws: FakeAws;
  beforeEach(async () => {
    aws = await FakeAws.start();
  });
  afterEach(() => aws.close());

  const check = async (regions: readonly string[], hasInstances = false): Promise<readonly string[]> => {
    const clock = new SystemClock();
    const { accessKeyId, secretAccessKey, sessionToken = '' } = aws.credentials;
    const checks = ec2Checks(
      { ec2: { ...DEFAULT_EC2_ACCESS, regions: regions.map((name) => ({ name })) } },
      Promise.resolve({ hasInstances } as Declarations),
      {
        clock,
        aws: { credentials: { accessKeyId, secretAccessKey, sessionToken }, endpoints: { ec2: aws.url }, ca: aws.ca },
      },
    );
    const findings = await runChecks(checks, clock, new AbortController().signal);
    return findings.map(({ check: name, result, seen }) => `${name}: ${result} ${seen}`);
  };

  it('counts the instances that are tagged for somebody', async () => {
    const place = { options: {}, launchedAt: new Date(), terminate: async () => undefined };
    for (const [number, state] of ['running', 'stopped', 'running'].entries()) {
      const tags = number === 2 ? {} : { 'plugset.dev/workspace': 'team-a/alice' };
      aws.instances.push({ id: `i-0000000${number}`, state, tags, ...place } as unknown as FakeInstance);
    }
    expect(await check([aws.region])).toEqual([
      'ec2 eu-test-1: ok 2 instances tagged plugset.dev/workspace, 1 of them running',
    ]);
  });

  it('says what AWS says, and misses regions only where workspaces are in some', async () => {
    aws.faults.deny('DescribeInstances');
    expect(await check([aws.region])).toEqual([
      'ec2 eu-test-1: FAIL AWS does not let the credential of plugset do ec2:DescribeInstances in eu-test-1 (AccessDenied)',
    ]);
    expect(await check([])).toEqual([]);
    expect(await check([], true)).toEqual(['ec2 regions: FAIL workspaces are EC2 instances, and no region is allowed']);
  });
});
