import { afterEach, describe, expect, it } from 'vitest';

import { transient } from '../../../src/domain/errors.ts';
import { workspaceKey, type WorkspaceKey } from '../../../src/domain/name.ts';
import { Errands } from '../../../src/reconcile/errands.ts';
import { untilAborted } from '../../../src/ports/abort.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const ALICE = workspaceKey('default', 'alice');
const BOB = workspaceKey('default', 'bob');
const PATIENCE_MS = 5_000;

/** Errands whose ends the test decides. */
function setUp(patienceMs: number | undefined) {
  const clock = new FakeClock();
  const woken: WorkspaceKey[][] = [];
  const errands = new Errands<string>({ clock, patienceMs, onEnded: (keys) => woken.push(keys.toSorted()) });
  const runs: { signal: AbortSignal; end: (value: string) => void; fail: (error: Error) => void }[] = [];
  const work = (signal: AbortSignal): Promise<string> =>
    new Promise((end, fail) => {
      signal.addEventListener('abort', () => fail(new Error('ended')), { once: true });
      runs.push({ signal, end, fail });
    });
  /** What became of it, as text; `waits` while nothing has. */
  const ask = (key: WorkspaceKey, signal = new AbortController().signal) => {
    const outcome = { is: 'waits' };
    void errands.run({ id: 'x', what: 'forge://x', key }, work, signal).then(
      (value) => (outcome.is = value),
      (error: { reason?: string; message: string }) => (outcome.is = error.reason ?? error.message),
    );
    return outcome;
  };
  return { clock, errands, runs, woken, ask };
}

describe('Errands', () => {
  let stop = (): void => undefined;
  afterEach(() => stop());
  const begin = () => {
    const all = setUp(PATIENCE_MS);
    stop = () => all.errands.stop();
    return all;
  };

  it('that end in time are as if they had been waited for, and run once for all', async () => {
    const { ask, clock, runs, woken } = begin();
    const [first, second] = [ask(ALICE), ask(BOB)];
    runs[0]?.end('tree');
    await clock.advance(0);
    expect([first.is, second.is, runs.length]).toEqual(['tree', 'tree', 1]);
    await clock.advance(60_000);
    expect(woken).toEqual([]);
    expect(clock.pendingTimers).toBe(0);
  });

  it('that take longer are left, go on, and wake whoever left', async () => {
    const { ask, clock, runs, woken } = begin();
    const first = ask(ALICE);
    await clock.advance(PATIENCE_MS);
    expect(first.is).toBe('Progressing');
    const second = ask(BOB);
    await clock.advance(0);
    expect(second.is, 'patience is of the errand, not of each pass').toBe('Progressing');
    expect(runs.map(({ signal }) => signal.aborted)).toEqual([false]);
    runs[0]?.end('tree');
    await clock.advance(0);
    expect(woken).toEqual([[ALICE, BOB]]);
  });

  it('that fail late say so to whoever left, and afterwards until they succeed', async () => {
    const { ask, clock, runs, woken } = begin();
    ask(ALICE);
    await clock.advance(20_000);
    runs[0]?.fail(transient('SourceUnavailable', 'it hangs'));
    await clock.advance(0);
    expect(woken).toEqual([[ALICE]]);
    const told = ask(ALICE);
    await clock.advance(0);
    expect([told.is, runs.length]).toEqual(['SourceUnavailable', 1]);

    await clock.advance(10_000);
    const again = ask(ALICE);
    await clock.advance(PATIENCE_MS);
    expect([again.is, runs.length], 'it is asked again, and the state does not flap').toEqual(['SourceUnavailable', 2]);
    runs[1]?.fail(transient('SourceUnavailable', 'it hangs'));
    await clock.advance(0);
    expect(woken, 'no news').toHaveLength(1);

    await clock.advance(10_000);
    ask(ALICE);
    await clock.advance(PATIENCE_MS);
    runs[2]?.end('tree');
    await clock.advance(0);
    expect(woken).toEqual([[ALICE], [ALICE]]);
  });

  it('go on when a pass is ended, and end when they are stopped', async () => {
    const { ask, clock, errands, runs, woken } = begin();
    const pass = new AbortController();
    const outcome = ask(ALICE, pass.signal);
    pass.abort(new Error('the pass is over'));
    await clock.advance(0);
    expect([outcome.is, runs[0]?.signal.aborted]).toEqual(['the pass is over', false]);
    errands.stop();
    await clock.advance(0);
    expect([runs[0]?.signal.aborted, woken]).toEqual([true, []]);
  });

  it.each([PATIENCE_MS, undefined])('of many plugins on one pass are no leak, patience %s', async (patienceMs) => {
    const { clock, errands } = setUp(patienceMs);
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning.name);
    process.on('warning', onWarning);
    const pass = new AbortController();
    const leaving = (signal: AbortSignal): Promise<string> => untilAborted(Promise.resolve('tree'), signal);
    const all = Array.from({ length: 50 }, (_, n) =>
      errands.run({ id: `${n}`, what: 'x', key: ALICE }, leaving, pass.signal),
    );
    await Promise.all(all);
    await clock.advance(0);
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  it('are waited for to the end by a single pass, which ends them with itself', async () => {
    const { ask, clock, runs } = setUp(undefined);
    const pass = new AbortController();
    const outcome = ask(ALICE, pass.signal);
    await clock.advance(10 * PATIENCE_MS);
    expect([outcome.is, runs[0]?.signal.aborted]).toEqual(['waits', false]);
    pass.abort();
    await clock.advance(0);
    expect([outcome.is, runs[0]?.signal.aborted]).toEqual(['ended', true]);
  });
});
