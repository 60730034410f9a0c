import { expect, it } from 'vitest';

import { HostLanes } from '../../../../src/adapters/git/host-lanes.ts';
import { settle } from '../../../support/fake-clock.ts';

const never = new AbortController().signal;

it('lets so many in per host, the others in order of arrival, and one host does not wait for another', async () => {
  const lanes = new HostLanes(2);
  const inside: string[] = [];
  const leave = new Map<string, () => void>();
  const enter = async (host: string, name: string): Promise<void> => {
    leave.set(name, await lanes.enter(host, never));
    inside.push(name);
  };
  const entering = [enter('a', 'a1'), enter('a', 'a2'), enter('a', 'a3'), enter('a', 'a4'), enter('b', 'b1')];
  await settle();
  expect(inside).toEqual(['a1', 'a2', 'b1']);
  leave.get('a2')?.();
  await settle();
  leave.get('a1')?.();
  await Promise.all(entering);
  expect(inside).toEqual(['a1', 'a2', 'b1', 'a3', 'a4']);
});

it('whoever gives up waiting takes no place', async () => {
  const lanes = new HostLanes(1);
  const leave = await lanes.enter('a', never);
  const abort = new AbortController();
  const impatient = lanes.enter('a', abort.signal);
  const patient = lanes.enter('a', never);
  abort.abort(new Error('enough'));
  await expect(impatient).rejects.toThrow('enough');
  leave();
  (await patient)();
  (await lanes.enter('a', never))();
  await expect(lanes.enter('a', abort.signal)).rejects.toThrow('enough');
});
