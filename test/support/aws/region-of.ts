import { onTestFinished } from 'vitest';

import { AwsRegion, type AwsRegionOptions } from '../../../src/adapters/aws/aws-region.ts';
import { SystemClock } from '../../../src/adapters/system/clock.ts';
import type { FakeAws } from './fake-aws.ts';
import type { FakeInstance } from './fake-instance.ts';

/** The APIs of the stand-in, until the test ends. */
export function regionOf(of: FakeAws, options: Partial<AwsRegionOptions> = {}): AwsRegion {
  const { accessKeyId, secretAccessKey, sessionToken = '' } = of.credentials;
  const region = new AwsRegion({
    region: of.region,
    clock: new SystemClock(),
    credentials: { accessKeyId, secretAccessKey, sessionToken },
    endpoints: { ec2: of.url, instanceConnect: of.url },
    ca: of.ca,
    ...options,
  });
  onTestFinished(() => region.close());
  return region;
}

/** As much of an instance as AWS tells; nothing runs. */
export function described(of: FakeAws, number: number, more: Partial<FakeInstance> = {}): FakeInstance {
  const id = `i-${String(number).padStart(17, '0')}`;
  const instance = {
    id,
    state: 'running',
    launchedAt: new Date('2026-01-01T00:00:00Z'),
    tags: {},
    options: {},
    vpcId: 'vpc-1',
    subnetId: 'subnet-1',
    privateIp: '10.0.0.5',
    isNitro: true,
    consoleOutput: '',
    ...more,
  } as unknown as FakeInstance;
  of.instances.push(instance);
  return instance;
}
