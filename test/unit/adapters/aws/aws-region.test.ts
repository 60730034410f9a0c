import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';

import type { AwsRegion } from '../../../../src/adapters/aws/aws-region.ts';
import { ConnectEndpoints } from '../../../../src/adapters/aws/connect-endpoints.ts';
import type { Instance } from '../../../../src/adapters/aws/instance.ts';
import { FakeAws } from '../../../support/aws/fake-aws.ts';
import { described, regionOf } from '../../../support/aws/region-of.ts';

const signal = new AbortController().signal;
let aws: FakeAws;
let small: FakeAws;

beforeAll(async () => {
  aws = await FakeAws.start();
  small = await FakeAws.start({ pageSize: 2 });
});
afterAll(async () => {
  for (const one of [aws, small]) {
    one.instances.length = 0;
    await one.close();
  }
});
beforeEach(() => {
  for (const one of [aws, small]) {
    one.faults.heal();
    one.instances.length = 0;
    one.endpoints.length = 0;
    one.calls.length = 0;
    one.clockSkewMs = 0;
  }
});

/** What it fails with, having looked that no part of it shows a secret of ours. */
async function failure(work: Promise<unknown>): Promise<unknown> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Error);
  for (let one: unknown = error; one instanceof Error; one = one.cause) {
    const text = `${one.message} ${one.stack} ${JSON.stringify(Object.entries(one))}`;
    for (const secret of [aws.credentials.secretAccessKey, aws.credentials.sessionToken ?? '', 'planted-secret']) {
      expect(text).not.toContain(secret);
    }
  }
  return error;
}

describe('AwsRegion', () => {
  const ask = (region: AwsRegion): Promise<unknown> => failure(region.instances([], signal));

  test.each([
    ['UnauthorizedOperation', 403, 'terminal', 'AccessDenied'],
    ['AuthFailure', 401, 'terminal', 'AuthenticationFailed'],
    ['SignatureDoesNotMatch', 403, 'terminal', 'AuthenticationFailed'],
    ['ExpiredToken', 400, 'transient', 'AuthenticationFailed'],
    ['RequestLimitExceeded', 503, 'transient', 'Throttled'],
    ['InternalError', 500, 'transient', 'Unreachable'],
    ['Unavailable', 503, 'transient', 'Unreachable'],
    ['SomethingNew', 400, 'transient', 'Unreachable'],
  ])('%s is %i %s %s, and is not quoted', async (code, status, errorClass, reason) => {
    aws.faults.fail('DescribeInstances', code, { status, message: 'planted-secret' });
    const error = await ask(regionOf(aws));
    expect(error).toMatchObject({
      class: errorClass,
      reason,
      cause: { message: expect.stringContaining(code) as string },
    });
  });

  test.each([
    ['AccessDeniedException', 'terminal', 'AccessDenied'],
    ['AuthException', 'terminal', 'AuthenticationFailed'],
    ['EC2InstanceNotFoundException', 'waiting', 'WorkspaceNotFound'],
    ['EC2InstanceStateInvalidException', 'waiting', 'WorkspaceNotRunning'],
    ['EC2InstanceUnavailableException', 'transient', 'Unreachable'],
    ['InvalidArgsException', 'terminal', 'InvalidSpec'],
    ['ThrottlingException', 'transient', 'Throttled'],
    ['ServiceException', 'transient', 'Unreachable'],
  ])('a key that is refused with %s is %s %s', async (code, errorClass, reason) => {
    aws.faults.fail('SendSSHPublicKey', code, { message: 'planted-secret' });
    const pushing = regionOf(aws).pushKey('i-00000000000000001', 'ubuntu', `ssh-ed25519 ${'A'.repeat(68)}`, signal);
    expect(await failure(pushing)).toMatchObject({ class: errorClass, reason });
  });

  test('a credential that AWS does not know, or that is over', async () => {
    const credentials = { accessKeyId: 'AKIAUNKNOWN', secretAccessKey: 'planted-secret' };
    expect(await ask(regionOf(aws, { credentials }))).toMatchObject({ reason: 'AuthenticationFailed' });
  });

  test('an API that cannot be reached, whose certificate nobody trusts, or that does not answer in time', async () => {
    expect(await ask(regionOf(aws, { endpoints: { ec2: 'https://127.0.0.1:1' } }))).toMatchObject({
      reason: 'Unreachable',
      message: expect.stringContaining('ECONNREFUSED') as string,
    });
    expect(await ask(regionOf(aws, { ca: undefined }))).toMatchObject({ reason: 'Unreachable' });
    aws.faults.hang('DescribeInstances');
    expect(await ask(regionOf(aws, { requestTimeoutMs: 200 }))).toMatchObject({
      reason: 'Unreachable',
      message: expect.stringContaining('no answer within 0.2 s') as string,
    });
  });

  test('hears of being called off', async () => {
    aws.faults.hang('DescribeInstances');
    const abort = new AbortController();
    const asking = failure(regionOf(aws).instances([], abort.signal));
    abort.abort();
    expect(await asking).toMatchObject({ class: 'aborted' });
  });

  test('signs by the clock of AWS, once it has heard it', async () => {
    for (const skewMs of [120_000, -120_000]) {
      aws.clockSkewMs = skewMs;
      const region = regionOf(aws);
      await region.instances([], signal);
      const { date } = await region.signingFacts(signal);
      expect(Math.abs(date.getTime() - Date.now() - skewMs)).toBeLessThan(10_000);
    }
  });

  test('reads the console, also of a kind of instance that has no latest one', async () => {
    const { id } = described(aws, 1, { consoleOutput: 'hello, wörld' });
    const old = described(aws, 2, { consoleOutput: 'booted', isNitro: false });
    expect(await regionOf(aws).consoleOutput(id, signal)).toBe('hello, wörld');
    expect(await regionOf(aws).consoleOutput(old.id, signal)).toBe('booted');
    const silent = described(aws, 3);
    expect(await regionOf(aws).consoleOutput(silent.id, signal)).toBe('');
  });
});

describe('ConnectEndpoints', () => {
  const instance: Instance = {
    id: 'i-00000000000000001',
    state: 'running',
    launchedAtMs: 0,
    vpcId: 'vpc-1',
    subnetId: 'subnet-1',
    ipv4: '10.0.0.5',
    ipv6: undefined,
    tags: {},
  };

  function endpointsOf(options: { endpointId?: string; fips?: boolean } = {}, of = aws): ConnectEndpoints {
    const endpoints = new ConnectEndpoints({ region: regionOf(of), ...options });
    onTestFinished(() => endpoints.close());
    return endpoints;
  }

  test('takes the endpoint of the subnet before one of the VPC, and none of another VPC', async () => {
    aws.createEndpoint({ id: 'eice-a', vpcId: 'vpc-2', subnetId: 'subnet-1' });
    aws.createEndpoint({ id: 'eice-b', subnetId: 'subnet-2' });
    const endpoints = endpointsOf();
    expect((await endpoints.endpointFor(instance, signal)).endpointId).toBe('eice-b');
    aws.createEndpoint({ id: 'eice-c', dnsName: 'c.example.com' });
    endpoints.doubt(instance);
    expect(await endpoints.endpointFor(instance, signal)).toEqual({
      endpointId: 'eice-c',
      dnsName: 'c.example.com',
      address: '10.0.0.5',
    });
  });

  test.each(['create-complete', 'update-in-progress', 'update-complete', 'update-failed'])(
    'uses one in state %s',
    async (state) => {
      aws.createEndpoint({ id: 'eice-a', state });
      expect((await endpointsOf().endpointFor(instance, signal)).endpointId).toBe('eice-a');
    },
  );

  test.each([
    ['create-in-progress', 'waiting'],
    ['create-failed', 'terminal'],
    ['delete-in-progress', 'terminal'],
    ['delete-failed', 'terminal'],
  ])('uses none in state %s: %s', async (state, errorClass) => {
    aws.createEndpoint({ id: 'eice-a', state });
    expect(await failure(endpointsOf().endpointFor(instance, signal))).toMatchObject({
      class: errorClass,
      reason: 'EndpointMissing',
      message: expect.stringContaining('eice-a') as string,
    });
  });

  test('says that there is none', async () => {
    expect(await failure(endpointsOf().endpointFor(instance, signal))).toMatchObject({
      class: 'terminal',
      reason: 'EndpointMissing',
      message: expect.stringContaining('vpc-1') as string,
    });
    const named = endpointsOf({ endpointId: 'eice-x' });
    expect(await failure(named.endpointFor(instance, signal))).toMatchObject({ reason: 'EndpointMissing' });
  });

  test('takes the one that the operator names', async () => {
    aws.createEndpoint({ id: 'eice-a' });
    aws.createEndpoint({ id: 'eice-b', subnetId: 'subnet-9' });
    const endpoints = endpointsOf({ endpointId: 'eice-b' });
    expect((await endpoints.endpointFor(instance, signal)).endpointId).toBe('eice-b');
  });

  test('takes the FIPS name where that is wanted; an empty one is none', async () => {
    aws.createEndpoint({ id: 'eice-a' });
    aws.createEndpoint({ id: 'eice-b', subnetId: 'subnet-2', fipsDnsName: 'b.fips.example.com' });
    const endpoints = endpointsOf({ fips: true });
    expect((await endpoints.endpointFor(instance, signal)).dnsName).toBe('b.fips.example.com');
    aws.endpoints.pop();
    endpoints.doubt(instance);
    expect(await failure(endpoints.endpointFor(instance, signal))).toMatchObject({ reason: 'EndpointMissing' });
  });

  test.each([
    ['ipv4', { ipv4: '10.0.0.5', ipv6: 'fd00::5' }, '10.0.0.5'],
    ['ipv6', { ipv4: '10.0.0.5', ipv6: 'fd00::5' }, 'fd00::5'],
    ['dualstack', { ipv4: undefined, ipv6: 'fd00::5' }, 'fd00::5'],
    ['dualstack', { ipv4: '10.0.0.5', ipv6: 'fd00::5' }, '10.0.0.5'],
  ] as const)('an endpoint of kind %s reaches %o at %s', async (ipAddressType, addresses, address) => {
    aws.createEndpoint({ ipAddressType });
    expect((await endpointsOf().endpointFor({ ...instance, ...addresses }, signal)).address).toBe(address);
  });

  test('says that no endpoint has the family of the instance', async () => {
    aws.createEndpoint({ ipAddressType: 'ipv6' });
    expect(await failure(endpointsOf().endpointFor(instance, signal))).toMatchObject({
      class: 'terminal',
      reason: 'EndpointMissing',
    });
  });

  test('asks once for a VPC, reads all pages, and asks anew after a failure', async () => {
    for (const id of ['eice-a', 'eice-b', 'eice-c']) small.createEndpoint({ id, subnetId: `subnet-${id}` });
    const endpoints = endpointsOf({}, small);
    const one = { ...instance, subnetId: 'subnet-eice-c' };
    const found = await Promise.all(Array.from({ length: 5 }, () => endpoints.endpointFor(one, signal)));
    expect(found.map(({ endpointId }) => endpointId)).toEqual(Array.from({ length: 5 }, () => 'eice-c'));
    expect(small.count('DescribeInstanceConnectEndpoints')).toBe(2);
    endpoints.doubt(one);
    small.faults.deny('DescribeInstanceConnectEndpoints');
    expect(await failure(endpoints.endpointFor(one, signal))).toMatchObject({ reason: 'AccessDenied' });
    small.faults.heal();
    expect((await endpoints.endpointFor(one, signal)).endpointId).toBe('eice-c');
  });
});
