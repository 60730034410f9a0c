import { describe, expect, it } from 'vitest';

import { stateKey } from '../../../src/domain/state-key.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import { CliBench, DIGEST_A, DIGEST_B, manifest, READY, statusWith } from './fixtures.ts';

const KEY = 'default/alice' as WorkspaceKey;

const WAITING = statusWith([['Ready', 'False', 'AwaitingApproval']], {
  planId: DIGEST_A,
  held: { reason: 'AwaitingApproval', message: 'waits', changes: ['install superpowers v1', 'remove old'] },
});

async function approvalOf(bench: CliBench): Promise<unknown> {
  return (await bench.state.get(stateKey('approval', KEY), new AbortController().signal))?.value;
}

describe('approve', () => {
  it('agrees to the plan that waits, and says what that is', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), WAITING);
    const { code, stdout } = await bench.run(['approve', 'alice', DIGEST_A]);
    expect(code).toBe(0);
    expect(stdout).toBe(
      'workspace default/alice: plan sha256:aaaaaaaaaaaa approved\n  install superpowers v1\n  remove old\n',
    );
    expect(await approvalOf(bench)).toEqual({
      text: `${DIGEST_A}@2026-01-01T00:00:00.000Z`,
      by: expect.stringMatching(/^\S+@\S+$/),
      atMs: Date.UTC(2026, 0, 1),
      generation: 1,
    });
    expect(bench.backend.rows.get(KEY)?.manifest.metadata.annotations, 'nobody can approve himself').toEqual({
      'plugset.dev/requestedAt': '2026-01-01T00:00:00.000Z approval',
    });
    await bench.run(['approve', 'alice', DIGEST_A]);
    expect(await approvalOf(bench), 'a second time').toMatchObject({ text: expect.stringMatching(/^sha256:a+@/) });
  });

  it('says so as data', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), WAITING);
    const approval = {
      kind: 'Approval',
      workspace: { namespace: 'default', name: 'alice' },
      planId: DIGEST_A,
      changes: ['install superpowers v1', 'remove old'],
    };
    const { stdout } = await bench.run(['approve', 'alice', DIGEST_A, '-o', 'json']);
    expect(JSON.parse(stdout)).toEqual(approval);
    const held = { reason: 'AwaitingApproval' };
    const stdin = JSON.stringify({ kind: 'Plan', workspace: approval.workspace, id: DIGEST_A, held });
    const many = await bench.run(['approve', '-f', '-', '-o', 'json'], { stdin });
    expect(JSON.parse(many.stdout)).toMatchObject({ kind: 'List', items: [approval] });
  });

  it('says that a restart follows', async () => {
    const bench = new CliBench();
    const held = { ...WAITING.held, restart: { follows: true } } as NonNullable<typeof WAITING.held>;
    bench.declare(manifest('alice'), { ...WAITING, target: 'container ws-alice', held });
    const { stdout } = await bench.run(['approve', 'alice', DIGEST_A]);
    expect(stdout).toMatch(
      / {2}remove old\n {2}then restarts container ws-alice, once nothing changes for a moment\n$/,
    );
  });

  it.each([
    ['another plan', WAITING, DIGEST_B, /is not what workspace default\/alice waits with; that is sha256:a+: install/],
    ['a beginning that another plan can be made to have', WAITING, DIGEST_A.slice(0, 40), /is not what workspace/],
    [
      'what is only observed',
      statusWith([['Ready', 'False', 'ObserveOnly']], {
        planId: DIGEST_A,
        held: { reason: 'ObserveOnly', message: 'policy.mode is Observe', changes: ['remove old'] },
      }),
      DIGEST_A,
      /is only observed \(policy\.mode\): nothing is approved there/,
    ],
    ['nothing that waits', READY, DIGEST_A, /waits with nothing/],
  ])('refuses %s', async (_, status, plan, problem) => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), status);
    const { code, stderr } = await bench.run(['approve', 'alice', plan]);
    expect(code).toBe(1);
    expect(stderr).toMatch(problem);
    expect(await approvalOf(bench)).toBeUndefined();
  });
});

describe('takeover', () => {
  it('is a word of the operator for each workspace, and wakes it', async () => {
    const bench = new CliBench();
    for (const name of ['alice', 'bob']) bench.declare(manifest(name), READY);
    const { code, stdout } = await bench.run(['takeover', '--all', '--from', 'store-1']);
    expect(code).toBe(0);
    expect(stdout).toContain('workspace default/bob: is taken over from store-1 if that manages its target\n');
    const { signal } = new AbortController();
    for (const key of bench.backend.rows.keys())
      expect((await bench.state.get(stateKey('takeover', key), signal))?.value).toMatchObject({
        text: 'store-1@2026-01-01T00:00:00.000Z',
      });
    expect(bench.backend.rows.get(KEY)?.manifest.metadata.annotations).toEqual({
      'plugset.dev/requestedAt': '2026-01-01T00:00:00.000Z takeover',
    });
    const missing = await bench.run(['takeover', 'carol', '--from', 'store-1']);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('default/carol is not declared') });
    expect(await bench.state.get('takeover/default/carol', signal)).toBeUndefined();
  });
});

describe('pause and resume', () => {
  it('hold for the whole fleet, and say who and why', async () => {
    const bench = new CliBench();
    expect((await bench.run(['resume'])).stdout).toBe('the fleet is not paused\n');
    expect((await bench.run(['pause', '--reason', 'incident 12'])).stdout).toMatch(/^the fleet is paused: nothing/);
    const paused = /the fleet is paused by \S+@\S+ since 2026-01-01T00:00:00\.000Z \(incident 12\): nothing is changed/;
    expect((await bench.run(['pause'])).stdout).toMatch(paused);
    expect((await bench.run(['status'])).stderr, 'whoever looks is told').toMatch(paused);
    const hold = { reason: 'Paused' as const, message: 'paused', changes: ['install a'] };
    bench.declare(manifest('alice'), statusWith([['Ready', 'False', 'Paused']], { held: hold }));
    bench.declare(manifest('bob'), READY);
    expect((await bench.run(['resume'])).stdout).toMatch(
      /^resumed; the fleet was paused by \S+@\S+ since 2026-01-01T00:00:00\.000Z \(incident 12\)\n$/,
    );
    expect((await bench.run(['resume'])).stdout).toBe('the fleet is not paused\n');
    const asked = (name: string): unknown =>
      bench.backend.rows.get(`default/${name}` as WorkspaceKey)?.manifest.metadata.annotations;
    expect(asked('alice'), 'what waited is woken').toEqual({ 'plugset.dev/requestedAt': expect.any(String) });
    expect(asked('bob')).toBeUndefined();
  });
});
