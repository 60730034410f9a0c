import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { expect, it, onTestFinished } from 'vitest';

import { endpointOf } from '../../../../src/adapters/ssh/endpoint-of.ts';
import { HostKeyPins } from '../../../../src/adapters/ssh/host-key-pins.ts';
import { fingerprintOf, hostKeyPinKey } from '../../../../src/domain/host-key.ts';
import type { PathStep } from '../../../../src/ports/path-trace.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';

const SIGNAL = new AbortController().signal;
const OLD = { type: 'ssh-ed25519', key: 'QUFB' };
const NEW = { type: 'ssh-ed25519', key: 'QkJC' };

const TOFU = {
  name: 'a.example.com',
  policy: 'tofu',
  ask: 'always',
  firstContact: 'tofu',
  voucher: 'nobody',
  vouchedFor: async () => [],
} as const;

it('pins nothing over what somebody else has pinned since', async () => {
  const pins = new HostKeyPins(() => state, new FakeClock());
  const state = new MemoryControllerState();
  const one = await pins.trustIn(TOFU, SIGNAL);
  const other = await pins.trustIn(TOFU, SIGNAL);
  await one.pin(OLD, SIGNAL);
  await expect(other.pin(NEW, SIGNAL)).rejects.toMatchObject({ class: 'transient', reason: 'StoreUnavailable' });
  expect((await pins.trustIn(TOFU, SIGNAL)).expected).toEqual([OLD]);
});

it('believes no pin that nobody vouched for where hosts are not taken on trust', async () => {
  const state = new MemoryControllerState();
  const pins = new HostKeyPins(() => state, new FakeClock());
  const STRICT = { ...TOFU, policy: 'strict', firstContact: 'strict' } as const;
  await (await pins.trustIn(TOFU, SIGNAL)).pin(OLD, SIGNAL);
  const strict = await pins.trustIn(STRICT, SIGNAL);
  expect(strict.accepts(OLD)).toBe(false);
  expect(strict.refusal(OLD)).toMatchObject({ reason: 'HostKeyUnknown' });

  const vouched = { ...STRICT, ask: 'whenUnpinned', vouchedFor: async () => [NEW] } as const;
  await (await pins.trustIn(vouched, SIGNAL)).pin(NEW, SIGNAL);
  expect((await pins.trustIn(STRICT, SIGNAL)).accepts(NEW)).toBe(true);
});

it('keeps a pin where no other host is kept, however that is named', () => {
  const hidden = hostKeyPinKey('[10.0.0.5]:2222');
  expect(hostKeyPinKey(hidden.replace('hostkey/', ''))).not.toBe(hidden);
});

it('tells a look what it would pin, and pins nothing', async () => {
  const state = new MemoryControllerState();
  const clock = new FakeClock();
  const steps: PathStep[] = [];
  const trace = { clock, onStep: (step: PathStep) => void steps.push(step) };
  const looking = new HostKeyPins(() => state, clock, { isLookOnly: true, trace });
  await (await looking.trustIn(TOFU, SIGNAL)).pin(OLD, SIGNAL);
  expect(steps).toMatchObject([
    {
      step: 'pin',
      facts: {
        host: 'a.example.com',
        key: `ssh-ed25519 ${fingerprintOf(OLD)}`,
        verified: false,
        pinned: 'by the next pass, and not by this look',
      },
    },
  ]);
  expect(await state.list('hostkey', SIGNAL)).toEqual([]);

  await (await new HostKeyPins(() => state, clock).trustIn(TOFU, SIGNAL)).pin(OLD, SIGNAL);
  expect(await state.list('hostkey', SIGNAL)).toHaveLength(1);
  const known = await looking.trustIn(TOFU, SIGNAL);
  expect([known.accepts(OLD), known.accepts(NEW)]).toEqual([true, false]);
});

it('notes where the host is found, also beside a pin that a person has made', async () => {
  const state = new MemoryControllerState();
  const key = hostKeyPinKey('i-0123456789abcdef0');
  const byHand = { name: 'i-0123456789abcdef0', keys: [OLD], verified: true, pinnedAtMs: 7 };
  await state.compareAndSwap(key, undefined, byHand, SIGNAL);
  const policy = { ...TOFU, name: byHand.name, address: 'ec2:eu-west-1:id:i-0123456789abcdef0' };
  const pins = new HostKeyPins(() => state, new FakeClock());
  await (await pins.trustIn(policy, SIGNAL)).pin(OLD, SIGNAL);
  const noted = await state.get(key, SIGNAL);
  expect(noted?.value).toMatchObject({ keys: [OLD], verified: true, address: policy.address });
  await (await pins.trustIn(policy, SIGNAL)).pin(OLD, SIGNAL);
  expect((await state.get(key, SIGNAL))?.version).toBe(noted?.version);
});

it('takes no key that the file of known hosts revokes, pinned or met for the first time', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'plugset-known-hosts-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const knownHostsFile = join(folder, 'known_hosts');
  const policyAfter = async (text: string) => {
    await writeFile(knownHostsFile, text);
    const allowed = { hosts: ['*'], keyFile: 'none', knownHostsFile, firstContact: 'tofu' } as const;
    return endpointOf({ host: 'a.example.com', port: 22, user: 'ubuntu' }, allowed).hostKeys;
  };
  const state = new MemoryControllerState();
  const pins = new HostKeyPins(() => state, new FakeClock());
  const revoked = '@revoked * ssh-ed25519 QUFB\n';

  const first = await pins.trustIn(await policyAfter(revoked), SIGNAL);
  expect([first.accepts(OLD), first.accepts(NEW)]).toEqual([false, true]);
  expect(first.refusal(OLD)).toMatchObject({ reason: 'HostKeyMismatch', message: expect.stringContaining('revoked') });

  await (await pins.trustIn(await policyAfter('a.example.com ssh-ed25519 QUFB\n'), SIGNAL)).pin(OLD, SIGNAL);
  const later = await pins.trustIn(await policyAfter(revoked), SIGNAL);
  expect([later.accepts(OLD), later.accepts(NEW)]).toEqual([false, false]);
});

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
