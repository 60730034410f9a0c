import { describe, expect, it } from 'vitest';

import { stateKey } from '../../../src/domain/state-key.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { CliBench, DIGEST_A, DIGEST_B, manifest, READY, statusWith } from './fixtures.ts';

const WAITING = statusWith([['Ready', 'False', 'AwaitingApproval']], {
  planId: DIGEST_A,
  held: { reason: 'AwaitingApproval', message: 'waits', changes: ['install superpowers v1', 'remove old'] },
});

async function approvalOf(bench: CliBench, name: string): Promise<unknown> {
  const key = stateKey('approval', `default/${name}` as WorkspaceKey);
  return (await bench.state.get(key, new AbortController().signal))?.value;
}

describe('approve -f', () => {
  const plan = (name: string, id: string, held?: object, rest: object = {}): object => ({
    kind: 'Plan',
    workspace: { namespace: 'default', name },
    id,
    changes: [],
    held,
    ...rest,
  });
  const waits = { reason: 'AwaitingApproval', message: 'waits', changes: ['install superpowers v1'] };
  const list = (...items: readonly object[]): string => JSON.stringify({ apiVersion: 'v1', kind: 'List', items });

  it('agrees to exactly the plans that were printed, and to no other', async () => {
    const bench = new CliBench();
    for (const name of ['alice', 'bob', 'carol', 'dave']) bench.declare(manifest(name), WAITING);
    bench.report('default/dave' as WorkspaceKey, READY);
    const stdin = list(plan('alice', DIGEST_A, waits), plan('bob', DIGEST_B, waits), plan('dave', DIGEST_A), {
      kind: 'Plan',
      workspace: { namespace: 'default', name: 'erin' },
      error: { reason: 'Unreachable' },
    });
    const { code, stdout, stderr } = await bench.run(['approve', '-f', '-'], { stdin });
    expect(code, 'bob waits with another plan').toBe(1);
    expect(stdout).toBe(
      'workspace default/alice: plan sha256:aaaaaaaaaaaa approved\n  install superpowers v1\n  remove old\n',
    );
    expect(stderr).toMatch(/error: plan sha256:b+ is not what workspace default\/bob waits with/);
    expect(stderr).toMatch(/\napproved 1 of 2 plans\n$/);
    expect(await approvalOf(bench, 'carol'), 'was not in the file').toBeUndefined();
    expect(await approvalOf(bench, 'alice')).toMatchObject({ text: expect.stringContaining(DIGEST_A) });
  });

  it('takes what a guard holds, one plan alone, and YAML', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), WAITING);
    const stdin = `kind: Plan\nworkspace: {namespace: default, name: alice}\nid: ${DIGEST_A}\nheld: {reason: PruneHeld}\n`;
    expect(await bench.run(['approve', '-f', '-'], { stdin })).toMatchObject({
      code: 0,
      stderr: 'approved 1 of 1 plan\n',
    });
    const idle = list(plan('alice', DIGEST_A, { reason: 'Paused' }));
    expect(await bench.run(['approve', '-f', '-'], { stdin: idle })).toMatchObject({
      code: 0,
      stderr: 'none of these plans waits for an approval\n',
    });
  });

  it('takes what waits in a former place where nothing waits in the declared one', async () => {
    const bench = new CliBench();
    for (const name of ['alice', 'bob']) bench.declare(manifest(name), WAITING);
    const left = { place: 'directory /away', reason: 'Unreachable', message: 'nobody answers' };
    const former = (id: string): object => ({ former: [left, { place: 'directory /old', id, held: waits }] });
    const stdin = list(
      { ...plan('alice', DIGEST_B), ...former(DIGEST_A) },
      { ...plan('bob', DIGEST_A, waits), ...former(DIGEST_B) },
    );
    expect((await bench.run(['approve', '-f', '-'], { stdin })).stderr).toBe('approved 2 of 2 plans\n');
  });

  it.each([
    ['approve', '', /which plan\? Give WORKSPACE and PLAN, or -f FILE/],
    ['approve alice', '', /which plan\?/],
    ['approve alice sha256:1 -f -', '', /which plan\?/],
    ['approve -f -', 'kind: Workspace\n', /stdin: is not what `plugset plan -o json` prints/],
    ['approve -f -', '{', /stdin: is not what/],
    ['approve -f /nowhere/plans.json', '', /\/nowhere\/plans\.json: does not exist/],
  ])('refuses %s with %j', async (line, stdin, problem) => {
    const { code, stderr } = await new CliBench().run(line.split(' '), { stdin });
    expect(code).toBe(1);
    expect(stderr).toMatch(problem);
  });
});
