import { setMaxListeners } from 'node:events';

import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';

import { AwsRegion, type AwsRegionOptions } from '../../../../src/adapters/aws/aws-region.ts';
import { ConnectEndpoints } from '../../../../src/adapters/aws/connect-endpoints.ts';
import { InstanceBatch } from '../../../../src/adapters/aws/instance-batch.ts';
import type { Instance } from '../../../../src/adapters/aws/instance.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import { FakeAws } from '../../../support/aws/fake-aws.ts';
import type { FakeInstance } from '../../../support/aws/fake-instance.ts';
import { LeapingClock } from '../../../support/leaping-clock.ts';

const signal = new AbortController().signal;
// One signal for hundreds who ask at once is no leak.
setMaxListeners(0, signal);
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

function regionOf(of: FakeAws = aws, options: Partial<AwsRegionOptions> = {}): AwsRegion {
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
function described(of: FakeAws, number: number, more: Partial<FakeInstance> = {}): FakeInstance {
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

describe('InstanceBatch', () => {
  function batchOf(of: FakeAws = aws): InstanceBatch {
    const batch = new InstanceBatch(regionOf(of));
    onTestFinished(() => batch.close());
    return batch;
  }

  test('asks once for everybody who asks within a moment', async () => {
    const all = Array.from({ length: 50 }, (_, number) => described(aws, number));
    const batch = batchOf();
    const found = await Promise.all(all.map(({ id }) => batch.find({ instanceId: id }, signal)));
    expect(found.map((each) => each.map(({ id }) => id))).toEqual(all.map(({ id }) => [id]));
    expect(aws.count('DescribeInstances')).toBe(1);
  });

  test('one that is unknown spoils it for nobody', async () => {
    const { id } = described(aws, 1);
    const batch = batchOf();
    const [found, none] = await Promise.all([
      batch.find({ instanceId: id }, signal),
      batch.find({ instanceId: 'i-0badc0ffee0badc0f' }, signal),
    ]);
    expect(found).toHaveLength(1);
    expect(none).toEqual([]);
    expect(aws.count('DescribeInstances')).toBe(1);
  });

  test('puts no more values into a request than AWS takes', async () => {
    const all = Array.from({ length: 450 }, (_, number) => described(aws, number));
    const batch = batchOf();
    const found = await Promise.all(all.map(({ id }) => batch.find({ instanceId: id }, signal)));
    expect(found.every((each) => each.length === 1)).toBe(true);
    expect(aws.count('DescribeInstances')).toBe(3);
  });

  test('counts the values of all tags of a request', async () => {
    const all = Array.from({ length: 250 }, (_, number) => ({ org: 'acme', name: `w${number}` }));
    for (const [number, tags] of all.entries()) described(aws, number, { tags });
    const batch = batchOf();
    const found = await Promise.all(all.map((tags) => batch.find({ tags }, signal)));
    expect(found.every((each) => each.length === 1)).toBe(true);
    expect(aws.count('DescribeInstances')).toBe(2);
  });

  test('finds by the value of a tag that is too long for a filter', async () => {
    const long = `${'*'.repeat(128)}${'x'.repeat(127)}`;
    described(aws, 1, { tags: { name: `${long}a` } });
    described(aws, 2, { tags: { name: `${long}b` } });
    const [only, ...more] = await batchOf().find({ tags: { name: `${long}b` } }, signal);
    expect(only?.id).toBe('i-00000000000000002');
    expect(more).toEqual([]);
  });

  describe('when AWS does not take one thing that it is asked', () => {
    /** Of a fleet of so many, which ones fail, and with what. */
    async function refusedOf(count: number, batch = batchOf()): Promise<Record<string, unknown>> {
      const errors: Record<string, unknown> = {};
      const find = async (number: number): Promise<void> => {
        const tags = { name: `w${number}` };
        await batch.find({ tags }, signal).catch((error: unknown) => (errors[`w${number}`] = error));
      };
      await Promise.all(Array.from({ length: count }, (_, number) => find(number)));
      return errors;
    }

    test.each([
      ['InvalidParameterValue', 'terminal', 'InvalidSpec'],
      ['InvalidInstanceID.Malformed', 'terminal', 'InvalidSpec'],
      ['InvalidInstanceID.NotFound', 'waiting', 'WorkspaceNotFound'],
    ])('only who asks that hears of %s, and few requests tell who', async (code, errorClass, reason) => {
      aws.faults.refuse('w77', code);
      const errors = await refusedOf(200);
      expect(Object.keys(errors)).toEqual(['w77']);
      expect(errors['w77']).toMatchObject({
        class: errorClass,
        reason,
        message: expect.stringContaining('tags name=w77') as string,
      });
      expect(aws.count('DescribeInstances')).toBeLessThanOrEqual(17);
    });

    test('it is left out of what is asked later, until it may be taken', async () => {
      const clock = new LeapingClock();
      const batch = new InstanceBatch(regionOf(aws, { clock }));
      onTestFinished(() => batch.close());
      aws.faults.refuse('w3', 'InvalidParameterValue');
      for (let round = 0; round < 3; round += 1) {
        expect(Object.keys(await refusedOf(8, batch))).toEqual(['w3']);
        clock.leap(5_000);
      }
      // Three halvings of eight, and one request for the others in each round after.
      expect(aws.count('DescribeInstances')).toBe(7 + 2);
      batch.doubt();
      aws.faults.heal();
      expect(Object.keys(await refusedOf(8, batch))).toEqual(['w3']);
      clock.leap(600_000);
      expect(await refusedOf(8, batch)).toEqual({});
    });

    test('no more than some requests are spent on it at once, and it is nobody else who is to blame', async () => {
      for (let number = 0; number < 200; number += 2) aws.faults.refuse(`w${number}`, 'InvalidParameterValue');
      const clock = new LeapingClock();
      const batch = new InstanceBatch(regionOf(aws, { clock }));
      onTestFinished(() => batch.close());
      const blamed = async (): Promise<number> => {
        const before = aws.count('DescribeInstances');
        const errors = Object.entries(await refusedOf(200, batch));
        expect(aws.count('DescribeInstances') - before).toBeLessThanOrEqual(33);
        const invalid = errors.filter(([, error]) => (error as { reason?: unknown }).reason === 'InvalidSpec');
        for (const [name] of invalid) expect(Number(name.slice(1)) % 2).toBe(0);
        for (const [, error] of errors)
          expect(error).toMatchObject({ reason: expect.stringMatching(/InvalidSpec|Unreachable/) });
        clock.leap(5_000);
        return invalid.length;
      };
      const first = await blamed();
      expect(first).toBeGreaterThan(0);
      expect(await blamed()).toBeGreaterThan(first);
    });
  });

  test('finds by all of several tags, each asker its own', async () => {
    described(aws, 1, { tags: { team: 'a', role: 'x' } });
    described(aws, 2, { tags: { team: 'b', role: 'y' } });
    described(aws, 3, { tags: { team: 'a', role: 'y' } });
    described(aws, 4, { tags: { team: 'a', role: 'x' }, state: 'terminated' });
    const batch = batchOf();
    const ids = async (tags: Record<string, string>): Promise<number[]> =>
      (await batch.find({ tags }, signal)).map(({ id }) => Number(id.slice(2)));
    expect(
      await Promise.all([
        ids({ team: 'a', role: 'x' }),
        ids({ role: 'y', team: 'b' }),
        ids({ team: 'b', role: 'x' }),
        ids({ team: 'a' }),
      ]),
    ).toEqual([[1, 4], [2], [], [1, 3, 4]]);
    expect(aws.count('DescribeInstances')).toBe(2);
  });

  test('takes tags literally, whatever a filter would make of them', async () => {
    described(aws, 1, { tags: { name: 'a*b?\\c' } });
    described(aws, 2, { tags: { name: 'aXXbYYc' } });
    const [only] = await batchOf().find({ tags: { name: 'a*b?\\c' } }, signal);
    expect(only?.id).toBe('i-00000000000000001');
    expect(await batchOf().find({ tags: { name: '*' } }, signal)).toEqual([]);
  });

  test('reads all pages', async () => {
    const tags = { fleet: 'x' };
    for (let number = 0; number < 5; number++) described(small, number, { tags });
    expect(await batchOf(small).find({ tags }, signal)).toHaveLength(5);
    expect(small.count('DescribeInstances')).toBe(3);
  });

  test('tells what it knows of an instance', async () => {
    described(aws, 1, { state: 'stopping', tags: { a: 'b' }, options: { ipv6: '2600:1f10::1' } });
    expect(await batchOf().find({ instanceId: 'i-00000000000000001' }, signal)).toEqual([
      {
        id: 'i-00000000000000001',
        state: 'stopping',
        launchedAtMs: Date.UTC(2026, 0, 1),
        vpcId: 'vpc-1',
        subnetId: 'subnet-1',
        ipv4: '10.0.0.5',
        ipv6: '2600:1f10::1',
        tags: { a: 'b' },
      },
    ]);
  });

  test('asks for everything that was asked lately at once, and believes it for a moment', async () => {
    const all = Array.from({ length: 20 }, (_, number) => described(aws, number));
    const clock = new LeapingClock();
    const batch = new InstanceBatch(regionOf(aws, { clock }));
    onTestFinished(() => batch.close());
    const turn = async (): Promise<void> => {
      for (const { id } of all) expect(await batch.find({ instanceId: id }, signal)).toHaveLength(1);
    };
    await Promise.all(all.map(({ id }) => batch.find({ instanceId: id }, signal)));
    await turn();
    expect(aws.count('DescribeInstances')).toBe(1);
    clock.leap(5_000);
    await turn();
    expect(aws.count('DescribeInstances')).toBe(2);
    batch.doubt();
    await turn();
    expect(aws.count('DescribeInstances')).toBe(3);
  });

  test('tells everybody what went wrong, and who gave up only that', async () => {
    aws.faults.deny('DescribeInstances');
    const batch = batchOf();
    const abort = new AbortController();
    const waiting = [
      failure(batch.find({ instanceId: 'i-00000000000000001' }, signal)),
      failure(batch.find({ instanceId: 'i-00000000000000002' }, signal)),
    ];
    const impatient = batch.find({ instanceId: 'i-00000000000000003' }, abort.signal);
    abort.abort(new Error('enough'));
    await expect(impatient).rejects.toThrow('enough');
    for (const error of await Promise.all(waiting)) expect(error).toMatchObject({ reason: 'AccessDenied' });
  });

  test('ends what is under way when it is closed', async () => {
    aws.faults.hang('DescribeInstances');
    const batch = batchOf();
    const asking = failure(batch.find({ instanceId: 'i-00000000000000001' }, signal));
    batch.close();
    expect(await asking).toMatchObject({ class: 'aborted' });
  });
});

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
    const error = await ask(regionOf());
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
    const pushing = regionOf().pushKey('i-00000000000000001', 'ubuntu', `ssh-ed25519 ${'A'.repeat(68)}`, signal);
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
    expect(await ask(regionOf(aws, { requestTimeoutMs: 200 }))).toMatchObject({ reason: 'Unreachable' });
  });

  test('hears of being called off', async () => {
    aws.faults.hang('DescribeInstances');
    const abort = new AbortController();
    const asking = failure(regionOf().instances([], abort.signal));
    abort.abort();
    expect(await asking).toMatchObject({ class: 'aborted' });
  });

  test('signs by the clock of AWS, once it has heard it', async () => {
    for (const skewMs of [120_000, -120_000]) {
      aws.clockSkewMs = skewMs;
      const region = regionOf();
      await region.instances([], signal);
      const { date } = await region.signingFacts(signal);
      expect(Math.abs(date.getTime() - Date.now() - skewMs)).toBeLessThan(10_000);
    }
  });

  test('reads the console, also of a kind of instance that has no latest one', async () => {
    const { id } = described(aws, 1, { consoleOutput: 'hello, wörld' });
    const old = described(aws, 2, { consoleOutput: 'booted', isNitro: false });
    expect(await regionOf().consoleOutput(id, signal)).toBe('hello, wörld');
    expect(await regionOf().consoleOutput(old.id, signal)).toBe('booted');
    const silent = described(aws, 3);
    expect(await regionOf().consoleOutput(silent.id, signal)).toBe('');
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
