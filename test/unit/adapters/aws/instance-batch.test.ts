import { setMaxListeners } from 'node:events';

import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';

import { InstanceBatch } from '../../../../src/adapters/aws/instance-batch.ts';
import type { AwsRegion } from '../../../../src/adapters/aws/aws-region.ts';
import type { Instance } from '../../../../src/adapters/aws/instance.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { Clock } from '../../../../src/ports/clock.ts';
import { FakeAws } from '../../../support/aws/fake-aws.ts';
import { described, regionOf } from '../../../support/aws/region-of.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
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

function batchOf(of: FakeAws = aws, clock: Clock = new SystemClock()): InstanceBatch {
  const batch = new InstanceBatch(regionOf(of, { clock }));
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
    const batch = batchOf(aws, clock);
    aws.faults.refuse('w3', 'InvalidParameterValue');
    for (let round = 0; round < 3; round += 1) {
      expect(Object.keys(await refusedOf(8, batch))).toEqual(['w3']);
      clock.leap(5_000);
    }
    // Three halvings of eight, and one request for the others in each round after.
    expect(aws.count('DescribeInstances')).toBe(7 + 2);
    aws.faults.heal();
    expect(Object.keys(await refusedOf(8, batch))).toEqual(['w3']);
    clock.leap(600_000);
    expect(await refusedOf(8, batch)).toEqual({});
  });

  test('no more than some requests are spent on it at once, and it is nobody else who is to blame', async () => {
    for (let number = 0; number < 200; number += 2) aws.faults.refuse(`w${number}`, 'InvalidParameterValue');
    const clock = new LeapingClock();
    const batch = batchOf(aws, clock);
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
  const batch = batchOf(aws, clock);
  const turn = async (): Promise<void> => {
    for (const { id } of all) expect(await batch.find({ instanceId: id }, signal)).toHaveLength(1);
  };
  await Promise.all(all.map(({ id }) => batch.find({ instanceId: id }, signal)));
  await turn();
  expect(aws.count('DescribeInstances')).toBe(1);
  clock.leap(5_000);
  await turn();
  expect(aws.count('DescribeInstances')).toBe(2);
  batch.doubt('i-00000000000000099');
  await turn();
  expect(aws.count('DescribeInstances')).toBe(2);
  batch.doubt('i-00000000000000007');
  clock.leap(1);
  await turn();
  expect(aws.count('DescribeInstances')).toBe(3);
});

test('asks again though the answer came after the doubt, if it was asked before', async () => {
  const answers: ((found: readonly Instance[]) => void)[] = [];
  const clock = new FakeClock();
  const instances = () => new Promise<readonly Instance[]>((resolve) => answers.push(resolve));
  const batch = new InstanceBatch({ name: 'eu-test-1', clock, instances } as unknown as AwsRegion);
  const query = { instanceId: 'i-00000000000000001' };
  const found = [{ id: query.instanceId, state: 'running', tags: {} } as Instance];
  for (const asked of [1, 2]) {
    const finding = batch.find(query, signal);
    await clock.advance(25);
    expect(answers).toHaveLength(asked);
    if (asked === 1) batch.doubt(query.instanceId);
    await clock.advance(1_000);
    answers[asked - 1]?.(found);
    expect(await finding).toEqual(found);
  }
  await batch.find(query, signal);
  expect(answers).toHaveLength(2);
});

test('tells everybody what went wrong, and who gave up only that', async () => {
  aws.faults.deny('DescribeInstances');
  const batch = batchOf();
  const abort = new AbortController();
  const waiting = ['i-00000000000000001', 'i-00000000000000002'].map((instanceId) =>
    expect(batch.find({ instanceId }, signal)).rejects.toMatchObject({ reason: 'AccessDenied' }),
  );
  const impatient = batch.find({ instanceId: 'i-00000000000000003' }, abort.signal);
  abort.abort(new Error('enough'));
  await expect(impatient).rejects.toThrow('enough');
  await Promise.all(waiting);
});

test('ends what is under way when it is closed', async () => {
  aws.faults.hang('DescribeInstances');
  const batch = batchOf();
  const asking = batch.find({ instanceId: 'i-00000000000000001' }, signal).catch((error: unknown) => error);
  batch.close();
  expect(await asking).toMatchObject({ class: 'aborted' });
});
