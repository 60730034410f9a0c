import { afterEach, describe, expect, it } from 'vitest';

import { terminal, transient } from '../../../src/domain/errors.ts';
import { workspaceKey, type WorkspaceKey } from '../../../src/domain/name.ts';
import type { ParsedSource, PluginSource } from '../../../src/ports/plugin-source.ts';
import { Revisions } from '../../../src/reconcile/revisions.ts';
import { SourceRegistry } from '../../../src/reconcile/source-registry.ts';
import { FakeClock, settle } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { recordingMetrics } from '../../support/recording-metrics.ts';

const ALICE = workspaceKey('default', 'alice');
const BOB = workspaceKey('default', 'bob');
const INTERVAL_MS = 60_000;

/** One forge with one repository, whose branches are `heads`. */
function setUp() {
  const heads = new Map<string, string>([['main', 'c1']]);
  const forge = { asked: 0, fails: undefined as Error | undefined, hold: undefined as Promise<void> | undefined };
  const source: PluginSource = {
    schemes: ['forge'],
    parse: (ref) => ({ ref, group: 'forge', selector: ref.spec, subPath: '', pinned: ref.spec.startsWith('sha:') }),
    async resolve(wanted) {
      forge.asked += 1;
      await forge.hold;
      if (forge.fails !== undefined) throw forge.fails;
      const answer = (one: ParsedSource): string | Error =>
        one.pinned
          ? one.selector.slice(4)
          : (heads.get(one.selector) ?? terminal('PluginNotFound', `no ref ${one.selector}`));
      return new Map(wanted.map((one) => [one, answer(one)]));
    },
    async *fetch() {},
  };
  const clock = new FakeClock();
  clock.setRandom(() => 0.5);
  const moved: WorkspaceKey[][] = [];
  const registry = new SourceRegistry([source]);
  const revisions = new Revisions({
    registry,
    clock,
    logger: new RecordingLogger(),
    metrics: recordingMetrics(),
    intervalMs: () => INTERVAL_MS,
    onMoved: (keys) => moved.push(keys.toSorted()),
  });
  const ask = async (key: WorkspaceKey, text: string, fresh = false) => {
    const parsed = registry.parse(text);
    revisions.follow(key, [parsed]);
    return revisions.resolve(parsed, fresh, new AbortController().signal);
  };
  return { heads, forge, clock, moved, revisions, ask };
}

describe('Revisions', () => {
  let stop = (): void => undefined;
  afterEach(() => stop());
  const begin = () => {
    const all = setUp();
    stop = () => all.revisions.stop();
    return all;
  };

  it('asks once for a whole fleet, however many want to know', async () => {
    const { ask, forge } = begin();
    const answers = await Promise.all([ask(ALICE, 'forge://main'), ask(BOB, 'forge://main')]);
    expect(answers).toEqual([
      { revision: 'c1', stale: undefined },
      { revision: 'c1', stale: undefined },
    ]);
    await ask(ALICE, 'forge://main');
    expect(forge.asked).toBe(1);
  });

  it('asks again each interval and names the followers of a ref that moved', async () => {
    const { ask, heads, clock, moved, forge } = begin();
    await ask(ALICE, 'forge://main');
    await ask(BOB, 'forge://main');
    await clock.advance(INTERVAL_MS);
    expect(forge.asked).toBe(2);
    expect(moved).toEqual([]);
    heads.set('main', 'c2');
    await clock.advance(INTERVAL_MS);
    expect(moved).toEqual([[ALICE, BOB]]);
    expect((await ask(ALICE, 'forge://main')).revision).toBe('c2');
  });

  it('lets the last answer stand while the source is down, and names the followers when it answers again', async () => {
    const { ask, heads, clock, moved, forge } = begin();
    await ask(ALICE, 'forge://main');
    forge.fails = transient('SourceUnavailable', 'forge is down');
    await clock.advance(INTERVAL_MS);
    expect(await ask(ALICE, 'forge://main')).toMatchObject({ revision: 'c1', stale: { reason: 'SourceUnavailable' } });
    forge.fails = undefined;
    heads.set('main', 'c2');
    await clock.advance(INTERVAL_MS);
    expect(moved).toEqual([[ALICE]]);
    expect(await ask(ALICE, 'forge://main')).toEqual({ revision: 'c2', stale: undefined });
  });

  it('shields a source that fails from everybody who retries', async () => {
    const { ask, clock, forge } = begin();
    forge.fails = transient('SourceUnavailable', 'forge is down');
    await expect(ask(ALICE, 'forge://main')).rejects.toMatchObject({ reason: 'SourceUnavailable' });
    await expect(ask(BOB, 'forge://main')).rejects.toMatchObject({ reason: 'SourceUnavailable' });
    expect(forge.asked).toBe(1);
    await clock.advance(6_000);
    forge.fails = undefined;
    expect((await ask(BOB, 'forge://main')).revision).toBe('c1');
  });

  it('fails the one ref that does not exist and no other', async () => {
    const { ask } = begin();
    await expect(ask(ALICE, 'forge://gone')).rejects.toMatchObject({ reason: 'PluginNotFound' });
    expect((await ask(BOB, 'forge://main')).revision).toBe('c1');
  });

  it('never asks again for a commit, and asks at once for a requested pass', async () => {
    const { ask, clock, forge, heads } = begin();
    await ask(ALICE, 'forge://sha:abc');
    await clock.advance(10 * INTERVAL_MS);
    expect(forge.asked).toBe(1);
    await ask(BOB, 'forge://main');
    heads.set('main', 'c2');
    expect((await ask(BOB, 'forge://main')).revision).toBe('c1');
    expect((await ask(BOB, 'forge://main', true)).revision).toBe('c2');
  });

  it('answers a ref that came while a question was under way', async () => {
    const { ask, forge, heads } = begin();
    let release = (): void => undefined;
    forge.hold = new Promise((resolve) => (release = resolve));
    heads.set('next', 'c9');
    const first = ask(ALICE, 'forge://main');
    const second = ask(BOB, 'forge://next');
    release();
    expect((await first).revision).toBe('c1');
    expect((await second).revision).toBe('c9');
  });

  it('forgets what nobody follows, and stops asking', async () => {
    const { ask, revisions, clock, forge } = begin();
    await ask(ALICE, 'forge://main');
    revisions.follow(ALICE, []);
    await clock.advance(INTERVAL_MS * 3);
    const asked = forge.asked;
    await clock.advance(INTERVAL_MS * 10);
    expect(forge.asked).toBe(asked);
    await settle();
    expect(clock.pendingTimers).toBe(0);
  });

  it('remembers nothing of sources that nobody declares any more, pinned ones included', async () => {
    const { ask, revisions, forge, clock } = begin();
    const pinned = `forge://sha:${'a'.repeat(40)}`;
    for (const text of [pinned, 'forge://main']) {
      await ask(ALICE, text);
      const { asked } = forge;
      await ask(BOB, text);
      revisions.follow(ALICE, []);
      await ask(BOB, text);
      expect(forge.asked, 'remembered').toBe(asked);
      revisions.follow(BOB, []);
      await ask(ALICE, text);
      expect(forge.asked, 'forgotten').toBe(asked + 1);
      revisions.follow(ALICE, []);
    }

    let release = (): void => undefined;
    forge.hold = new Promise((resolve) => (release = resolve));
    const left = ask(ALICE, pinned);
    await settle();
    revisions.follow(ALICE, []);
    release();
    await left;
    await settle();
    const { asked } = forge;
    await ask(ALICE, pinned);
    expect(forge.asked, 'forgotten at the end of the question').toBe(asked + 1);
    revisions.follow(ALICE, []);
    expect(clock.pendingTimers).toBe(0);
  });
});
