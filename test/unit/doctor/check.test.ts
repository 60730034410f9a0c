import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';

import { ADVICE } from '../../../src/domain/advice.ts';
import { terminal } from '../../../src/domain/errors.ts';
import { ok, runChecks, warn, type Check } from '../../../src/doctor/check.ts';
import { NODE_SINCE, version } from '../../../src/doctor/surroundings.ts';
import { Expired } from '../../../src/ports/deadline.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const NEVER = new AbortController().signal;

describe('checks', () => {
  it('run side by side; one that hangs or breaks stops no other, and is ended at its deadline', async () => {
    const clock = new FakeClock();
    let ended = false;
    const hangs: Check = {
      name: 'hangs',
      look: (signal) => new Promise(() => signal.addEventListener('abort', () => (ended = true), { once: true })),
    };
    const done: string[] = [];
    const checks: readonly Check[] = [
      hangs,
      { name: 'breaks', look: () => Promise.reject(terminal('DiskFull', 'no room on /srv')) },
      { name: 'faults', look: () => Promise.reject(new Error('what is this')) },
      {
        name: 'answers',
        look: async () => {
          done.push('answers');
          return [ok('one'), warn('two', 'Do it.')];
        },
      },
      { name: 'is late in a part of it', look: () => Promise.reject(new Expired(5000)) },
      { name: 'has nothing to tell', look: async () => [] },
    ];
    const running = runChecks(checks, clock, NEVER);
    await clock.advance(0);
    expect(done).toEqual(['answers']);
    await clock.advance(10_000);
    expect(await running).toEqual([
      { check: 'hangs', result: 'FAIL', seen: 'no answer within 10 s', fix: expect.stringMatching(/^Find out/) },
      { check: 'breaks', result: 'FAIL', seen: 'no room on /srv (DiskFull)', fix: ADVICE.DiskFull },
      { check: 'faults', result: 'FAIL', seen: 'what is this', fix: expect.any(String) },
      { check: 'answers', result: 'ok', seen: 'one' },
      { check: 'answers', result: 'warn', seen: 'two', fix: 'Do it.' },
      {
        check: 'is late in a part of it',
        result: 'FAIL',
        seen: 'no answer within 5 s',
        fix: expect.stringMatching(/^Find out/),
      },
    ]);
    expect(ended).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });

  it('end with the command', async () => {
    const stop = new AbortController();
    const running = runChecks(
      [{ name: 'hangs', look: () => new Promise(() => undefined) }],
      new FakeClock(),
      stop.signal,
    );
    stop.abort(new Error('Ctrl-C'));
    await expect(running).rejects.toThrow('Ctrl-C');
  });

  it('ask for the Node that the package asks for', async () => {
    const { engines } = JSON.parse(await readFile(new URL('../../../package.json', import.meta.url), 'utf8')) as {
      engines: { node: string };
    };
    expect(engines.node).toBe(`>=${NODE_SINCE.join('.')}`);
    expect(version('20.18.3')).toMatchObject({ result: 'FAIL', fix: 'Install Node 20.19 or newer.' });
    expect(version('20.19.0').result).toBe('ok');
    expect(version('22.0.0').result).toBe('ok');
  });
});
