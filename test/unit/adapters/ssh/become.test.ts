import { expect, it } from 'vitest';

import { Becoming, type Ask } from '../../../../src/adapters/ssh/become.ts';
import type { SshSession } from '../../../../src/adapters/ssh/session.ts';
import type { Facts, PathTrace } from '../../../../src/ports/path-trace.ts';
import type { SshEndpoint } from '../../../../src/ports/ssh-endpoint.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SESSION = {} as SshSession;
const ENDPOINT = { description: 'host ubuntu@a', user: 'ubuntu' } as SshEndpoint;
const ROOT = { uid: 0, gid: 0 };

it('lets nobody write as whoever logs in because a look had to do with that', async () => {
  const becoming = new Becoming();
  const refuse: Ask = async () => 'refused\n';
  expect(await becoming.prefixFor(SESSION, ENDPOINT, 'observer', refuse)).toEqual([]);
  await expect(becoming.prefixFor(SESSION, ENDPOINT, ROOT, refuse)).rejects.toMatchObject({ reason: 'SudoRefused' });
});

it('asks again after a refusal, and not after it worked', async () => {
  const becoming = new Becoming();
  const answers = ['refused', 'sudo'];
  const ask: Ask = async () => answers.shift() ?? 'asked once too often';
  await expect(becoming.prefixFor(SESSION, ENDPOINT, ROOT, ask)).rejects.toMatchObject({ reason: 'SudoRefused' });
  const prefix = ['sudo', '-n', '-u', '#0', '--'];
  expect(await becoming.prefixFor(SESSION, ENDPOINT, ROOT, ask)).toEqual(prefix);
  expect(await becoming.prefixFor(SESSION, ENDPOINT, ROOT, ask)).toEqual(prefix);
});

it('tells a look that it is made as whoever logs in, and why', async () => {
  const facts: Facts[] = [];
  const trace: PathTrace = { clock: new FakeClock(), onStep: (step) => void facts.push(step.facts) };
  const seen = async (answer: string): Promise<unknown> => {
    await new Becoming(trace).prefixFor(SESSION, ENDPOINT, 'observer', async () => answer);
    return facts.at(-1);
  };
  const so = 'looks are made as ubuntu';
  expect(await seen('refused')).toMatchObject({ by: 'nothing, as sudo does not allow it without a password', so });
  expect(await seen('no-sudo')).toMatchObject({ by: 'nothing, as there is no sudo', so });
});
