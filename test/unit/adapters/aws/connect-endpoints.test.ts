import { expect, it } from 'vitest';

import type { AwsRegion } from '../../../../src/adapters/aws/aws-region.ts';
import { ConnectEndpoints } from '../../../../src/adapters/aws/connect-endpoints.ts';
import type { Instance } from '../../../../src/adapters/aws/instance.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const INSTANCE = { id: 'i-1', vpcId: 'vpc-1', subnetId: 'subnet-1', ipv4: '10.0.0.5' } as Instance;
const ENDPOINT = { InstanceConnectEndpointId: 'eice-1', State: 'create-complete', DnsName: 'eice-1.example.com' };

it('hands a failure to nobody who asks later, also where whoever asked has gone before it came', async () => {
  let fail: (error: Error) => void = () => undefined;
  const lost = new Promise((_resolve, reject) => (fail = reject));
  const answers = [lost, Promise.resolve([ENDPOINT])];
  const region = {
    name: 'eu-west-1',
    clock: new FakeClock(),
    connectEndpoints: () => answers.shift(),
  } as unknown as AwsRegion;
  const endpoints = new ConnectEndpoints({ region });
  const stop = new AbortController();
  const left = endpoints.endpointFor(INSTANCE, stop.signal);
  stop.abort(new Error('gone'));
  await expect(left).rejects.toThrow('gone');
  fail(new Error('throttled'));
  await lost.catch(() => undefined);
  const { signal } = new AbortController();
  expect(await endpoints.endpointFor(INSTANCE, signal)).toMatchObject({ endpointId: 'eice-1' });
});
