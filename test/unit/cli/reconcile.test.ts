import { describe, expect, it } from 'vitest';

import { progressOf } from '../../../src/cli/reconcile.ts';
import type { WorkspaceKey } from '../../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION } from '../../../src/domain/workspace.ts';
import { eventually } from '../../support/eventually.ts';
import { CliBench, manifest, READY, statusWith } from './fixtures.ts';

const KEY = 'default/alice' as WorkspaceKey;

function tokenOf(bench: CliBench): string {
  const token = bench.backend.rows.get(KEY)?.manifest.metadata.annotations?.[REQUESTED_AT_ANNOTATION];
  if (token === undefined) throw new Error('nobody asked for a pass');
  return token;
}

const STALLED = statusWith([
  ['Ready', 'False', 'InvalidSource', 'unknown scheme ftp://'],
  ['Stalled', 'True', 'InvalidSource', 'unknown scheme ftp://'],
]);

describe('reconcile', () => {
  it('asks for a pass and ends', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    expect(await bench.run(['reconcile', 'alice'])).toEqual({
      code: 0,
      stdout: 'workspace default/alice: a pass was asked for\n',
      stderr: '',
    });
    expect(tokenOf(bench)).toMatch(/^2026-01-01T00:00:00\.000Z-[0-9a-f]+$/);
  });

  it('asks with another token each time, within one millisecond too', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    await bench.run(['reconcile', 'alice']);
    const first = tokenOf(bench);
    await bench.run(['reconcile', 'alice']);
    expect(tokenOf(bench)).not.toBe(first);
  });

  it('fails for a workspace that is not declared', async () => {
    expect(await new CliBench().run(['reconcile', 'alice', '--wait'])).toMatchObject({ code: 1, stdout: '' });
  });

  it('waits until the pass it asked for has been made and found everything as declared', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), { ...READY, lastHandledReconcileAt: 'of somebody else' });
    const cli = bench.start(['reconcile', 'alice', '--wait']);
    await eventually(() => tokenOf(bench));
    await bench.clock.advance(5000);
    bench.report(KEY, { ...READY, lastHandledReconcileAt: tokenOf(bench) });
    await bench.clock.advance(500);
    expect(await cli.finished).toEqual({
      code: 0,
      stdout:
        'workspace default/alice: a pass was asked for\nworkspace default/alice is ready: 1 of 1 plugins as declared\n',
      stderr: '',
    });
    expect(bench.clock.pendingTimers).toBe(0);
  });

  it('ends at once, with the condition, when waiting cannot help', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    const cli = bench.start(['reconcile', 'alice', '--wait']);
    await eventually(() => tokenOf(bench));
    bench.report(KEY, { ...STALLED, lastHandledReconcileAt: tokenOf(bench) });
    await bench.clock.advance(500);
    expect(await cli.finished).toMatchObject({
      code: 1,
      stderr: 'error: workspace default/alice: Ready is False (InvalidSource): unknown scheme ftp://\n',
    });
  });

  it('says what it waits for, once, when that takes longer than a pass', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'));
    const cli = bench.start(['reconcile', 'alice', '--wait', '--timeout', '60s']);
    await eventually(() => tokenOf(bench));
    const claimed = statusWith([['Ready', 'False', 'TargetClaimed', 'claimed by bob too']]);
    bench.report(KEY, { ...claimed, lastHandledReconcileAt: tokenOf(bench) });
    await bench.clock.advance(60_000);
    expect((await cli.finished).stderr).toBe(
      'workspace default/alice: waiting; Ready is False (TargetClaimed): claimed by bob too\n' +
        'error: workspace default/alice: not ready after 60s; Ready is False (TargetClaimed): claimed by bob too\n',
    );
  });

  it('says after the timeout that no daemon seems to run', async () => {
    const bench = new CliBench();
    bench.declare(manifest('alice'), READY);
    const cli = bench.start(['reconcile', 'alice', '--wait', '--timeout', '90s']);
    await eventually(() => tokenOf(bench));
    await bench.clock.advance(90_000);
    const { code, stderr } = await cli.finished;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: workspace default\/alice: not ready after 90s; no daemon has made the pass: is `plugset run` running/m,
    );
  });

  it('refuses a timeout that is no duration', async () => {
    const { code, stderr } = await new CliBench().run(['reconcile', 'alice', '--timeout', 'soon']);
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^error: option '--timeout <duration>' argument 'soon' is invalid. give a number with s, m or h/,
    );
  });
});

it('names the default of --timeout once, in words', async () => {
  const { stdout } = await new CliBench().run(['reconcile', '--help']);
  expect(stdout).toContain('how long to wait: 90s, 5m (default: 5m)\n');
});

describe('progressOf', () => {
  async function progress(
    status: WorkspaceStatus,
    prepare: (bench: CliBench) => void = () => undefined,
  ): Promise<string> {
    const bench = new CliBench();
    bench.declare(manifest('alice'), { ...status, lastHandledReconcileAt: 'token' });
    prepare(bench);
    const loaded = await bench.store.get(KEY, new AbortController().signal);
    const { kind, message } = progressOf(loaded, 'token');
    return `${kind}: ${message}`;
  }

  it.each([
    ['True is the end', READY, 'ready: 1 of 1 plugins as declared'],
    ['Stalled too', STALLED, 'stuck: Ready is False (InvalidSource): unknown scheme ftp://'],
    [
      'suspended is a state that no waiting ends',
      statusWith([['Ready', 'Unknown', 'Suspended', 'spec.suspend is true']]),
      'stuck: Ready is Unknown (Suspended): spec.suspend is true',
    ],
    [
      'changes that a person holds back are too',
      statusWith([['Ready', 'False', 'Paused', 'the fleet is paused by ops']], {
        held: { reason: 'Paused', message: 'the fleet is paused by ops', changes: ['install a v1'] },
      }),
      'stuck: Ready is False (Paused): the fleet is paused by ops',
    ],
    [
      'what is retried may come right',
      statusWith([
        ['Ready', 'False', 'DiskFull', 'no space'],
        ['Reconciling', 'True', 'ProgressingWithRetry'],
      ]),
      'waiting: Ready is False (DiskFull): no space',
    ],
  ])('%s', async (_, status, expected) => {
    expect(await progress(status)).toBe(expected);
  });

  it('a new declaration is waited for, a deleted or malformed one is not', async () => {
    const again = manifest('alice', { runtime: 'hermes' });
    expect(await progress(READY, (bench) => bench.backend.declare(again))).toBe(
      'waiting: it was declared anew meanwhile',
    );
    expect(await progress(READY, (bench) => bench.backend.rows.delete(KEY))).toBe('stuck: it was deleted meanwhile');
    expect(await progress(READY, (bench) => bench.backend.malform(KEY, 'a.yaml:1:1: no'))).toBe(
      'stuck: the declaration cannot be used (InvalidSpec): a.yaml:1:1: no',
    );
  });
});
