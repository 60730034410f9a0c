import { expect, it } from 'vitest';

import { HostKeyPins } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { hostKeyPinKey } from '../../../../src/domain/host-key.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';

it.each([
  ['agents.example.com', 'plugset hostkey forget agents.example.com'],
  ['[10.0.0.5]:2222', "plugset hostkey forget '[10.0.0.5]:2222'"],
])('says how %s is forgotten, as a shell takes it', async (name, command) => {
  const { signal } = new AbortController();
  const state = new MemoryControllerState();
  await state.compareAndSwap(hostKeyPinKey(name), undefined, { no: 'pin' }, signal);
  const policy = {
    name,
    policy: 'targets.ssh',
    ask: 'whenUnpinned',
    firstContact: 'tofu',
    voucher: 'nobody',
    vouchedFor: async () => [],
  } as const;
  await expect(new HostKeyPins(() => state, new FakeClock()).trustIn(policy, signal)).rejects.toThrow(
    `the pinned key of ${name} cannot be read; ${command}`,
  );
});
