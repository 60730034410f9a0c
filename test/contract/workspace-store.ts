import { expect } from 'vitest';

import type { Fence } from '../../src/domain/fence.ts';
import { parsePluginName, parseWorkspaceKey, type WorkspaceKey } from '../../src/domain/name.ts';
import type { Condition } from '../../src/domain/condition.ts';
import { EMPTY_STATUS, type PluginStatus, type WorkspaceStatus } from '../../src/domain/status.ts';
import {
  API_VERSION,
  APPROVED_PLAN_ANNOTATION,
  REQUESTED_AT_ANNOTATION,
  type Policy,
  type Workspace,
  type WorkspaceManifest,
} from '../../src/domain/workspace.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../src/ports/workspace-store.ts';
import { eventually } from '../support/eventually.ts';
import { describeCases, type Cases, type Unsupported } from './cases.ts';

/** One empty back end and what people do to it with their own tools, past the port. */
export interface WorkspaceStoreBackend {
  /** One more store on this back end, as another process of the same controller would open it. May reject as a method would. */
  open(): Promise<WorkspaceStore>;
  /** Writes or replaces a declaration by hand (a file, SQL). Works while the back end is broken, too: the world goes on. */
  declare(manifest: WorkspaceManifest): Promise<void>;
  /** Takes a declaration out by hand. */
  remove(key: WorkspaceKey): Promise<void>;
  /** Makes an existing declaration unusable by hand, so that its key can still be told. */
  malform(key: WorkspaceKey): Promise<void>;
  /** No store can read or write from now on, and every watch has noticed, until `heal`. */
  break(): Promise<void>;
  heal(): Promise<void>;
  /**
   * Resolves when every open store answers with all that was written until now: by hand, or through another store. Left out
   * where an answer is always read from the very place.
   */
  settled?(): Promise<void>;
  /** The fence of turn number `turn` (from 1) of the controller, as the leadership on this back end would hand it out. */
  fence(turn: number): Fence;
  /** Removes everything. The stores are closed by then. */
  dispose(): Promise<void>;
}

export interface WorkspaceStoreHarness {
  create(): Promise<WorkspaceStoreBackend>;
  /** What applies where a declaration says nothing. */
  readonly defaultPolicy: Policy;
  /** What `origin` of a plugin looks like: where a person finds the entry. */
  readonly origin: RegExp;
  /** After a break it goes on where it was, so that nothing was missed and only what was edited is named. Left out: everything is. */
  readonly resumes?: true;
  /** Cases that cannot hold for this store, by name, each with the reason. A name that is no case fails the suite. */
  readonly unsupported?: Unsupported;
}

interface CaseContext {
  readonly backend: WorkspaceStoreBackend;
  readonly store: WorkspaceStore;
  readonly signal: AbortSignal;
  /** One more store, closed at the end. */
  openAnother(): Promise<WorkspaceStore>;
  readonly harness: WorkspaceStoreHarness;
}

const ALICE = keyOf('team-a/alice');
const BOB = keyOf('team-a/bob');
const CAROL = keyOf('default/carol');

const CLAIM_OF_A_DELETED = 'a claim of what is gone or already being deleted is refused and changes nothing';
const CLAIM_OF_A_PAST_TURN = 'a claim under an older turn than the store has seen is refused';

/** For a store where every deletion waits, so that nobody has to see to it. */
export const WITHOUT_CLAIMS: Unsupported = {
  [CLAIM_OF_A_DELETED]: 'every deletion waits here, nobody has to claim anything',
  [CLAIM_OF_A_PAST_TURN]: 'every deletion waits here, nobody has to claim anything',
};

export function describeWorkspaceStore(name: string, harness: WorkspaceStoreHarness): void {
  describeCases(`WorkspaceStore: ${name}`, CASES, harness.unsupported, async (later): Promise<CaseContext> => {
    const backend = await harness.create();
    later(() => backend.dispose());
    const stop = new AbortController();
    const openAnother = async (): Promise<WorkspaceStore> => {
      const store = await backend.open();
      later(() => store.close());
      return store;
    };
    const store = await openAnother();
    later(() => stop.abort(new Error('the case is over')));
    return { backend, store, signal: stop.signal, openAnother, harness };
  });
}

interface Naming {
  readonly key: WorkspaceKey;
  readonly cause: WatchCause;
}

/** Of the changes a watch named since `mark`, whether it named this key, and for what reason. */
class Watched {
  readonly #seen: Naming[] = [];
  #mark = 0;

  static async on(store: WorkspaceStore, signal: AbortSignal): Promise<Watched> {
    const watched = new Watched();
    await store.watch((key, cause) => watched.#seen.push({ key, cause }), signal);
    // What was open before may have been named by now; what is declared from here on must be.
    watched.mark();
    return watched;
  }

  /** Forgets what was named so far. */
  mark(): void {
    this.#mark = this.#seen.length;
  }

  async until(...keys: WorkspaceKey[]): Promise<void> {
    await eventually(() => expect(this.#since().map(({ key }) => key)).toEqual(expect.arrayContaining(keys)));
  }

  /** Keys named for an edit. A store that looks at everything now and then may name any key as `relist`. */
  get edited(): readonly WorkspaceKey[] {
    return this.#since()
      .filter(({ cause }) => cause === 'edit')
      .map(({ key }) => key);
  }

  #since(): readonly Naming[] {
    return this.#seen.slice(this.#mark);
  }
}

const CASES: Cases<CaseContext> = {
  'an empty back end has an empty list': async ({ store, signal }) => {
    expect(await store.list(signal)).toEqual([]);
  },

  'a key nobody declared is absent': async ({ store, signal }) => {
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
  },

  'what was declared before the store was opened is listed and found': async ({ backend, openAnother, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.declare(manifest(CAROL));
    const store = await openAnother();
    expect((await store.list(signal)).toSorted()).toEqual([CAROL, ALICE]);
    expect(await found(store, ALICE, signal)).toMatchObject({ key: ALICE, generation: 1, deleting: false });
    expect(await found(store, CAROL, signal)).toMatchObject({ key: CAROL, generation: 1, deleting: false });
  },

  'a workspace is found as it was written, defaults applied': async ({ backend, store, signal, harness }) => {
    await backend.declare(
      manifest(ALICE, {
        metadata: { labels: { org: 'acme', 'on-call': 'yes' }, annotations: { note: 'it\'s "quoted"\nand two lines' } },
        spec: {
          id: '4c1e0b6a-0000-4000-8000-000000000001',
          plugins: [
            {
              name: 'superpowers',
              source: 'github://obra/superpowers#v4.1.0',
              digest: DIGEST,
              config: { poll: { seconds: 30 }, tags: ['a', 1, null, true] },
            },
            { name: 'notes', source: 'notes' },
          ],
          policy: { prune: 'Off' },
          suspend: true,
        },
      }),
    );
    const workspace = await eventually(() => found(store, ALICE, signal));
    expect(workspace).toEqual({
      key: ALICE,
      id: '4c1e0b6a-0000-4000-8000-000000000001',
      labels: { org: 'acme', 'on-call': 'yes' },
      annotations: { note: 'it\'s "quoted"\nand two lines' },
      generation: 1,
      declaredAtMs: expect.any(Number),
      runtime: 'claude-code',
      target: { directory: { path: '/srv/agents/alice' } },
      plugins: [
        {
          name: 'superpowers',
          source: 'github://obra/superpowers#v4.1.0',
          digest: DIGEST,
          config: { poll: { seconds: 30 }, tags: ['a', 1, null, true] },
          origin: expect.stringMatching(harness.origin),
        },
        { name: 'notes', source: 'notes', origin: expect.stringMatching(harness.origin) },
      ],
      policy: { ...harness.defaultPolicy, prune: 'Off' },
      ownPolicy: { prune: 'Off' },
      lockedPolicy: [],
      suspend: true,
      deleting: false,
    });
  },

  'plugins have origins of their own, by which a person finds the entry': async ({
    backend,
    store,
    signal,
    harness,
  }) => {
    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('one'), plugin('two'), plugin('three')] } }));
    const { plugins } = await eventually(() => found(store, ALICE, signal));
    const origins = plugins.map(({ origin }) => origin);
    for (const origin of origins) expect(origin).toMatch(harness.origin);
    expect(new Set(origins).size).toBe(3);
  },

  'every kind of target is found as it was written': async ({ backend, store, signal }) => {
    const targets = [{ docker: {} }, { docker: { container: 'ws-alice', engine: 'second' } }, { external: {} }];
    for (const [index, target] of targets.entries())
      await backend.declare(manifest(keyOf(`kinds/w${index}`), { spec: { target } }));
    for (const [index, target] of targets.entries()) {
      await eventually(async () =>
        expect((await found(store, keyOf(`kinds/w${index}`), signal)).target).toEqual(target),
      );
    }
  },

  'a watch names what is declared, edited and removed later': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.settled?.();
    expect(await store.list(signal)).toEqual([ALICE]);
    const watched = await Watched.on(store, signal);

    await backend.declare(manifest(BOB));
    await watched.until(BOB);
    expect((await found(store, BOB, signal)).generation).toBe(1);

    watched.mark();
    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('other')] } }));
    await watched.until(ALICE);
    expect((await found(store, ALICE, signal)).plugins.map(({ name }) => name)).toEqual(['other']);

    watched.mark();
    await backend.remove(BOB);
    await watched.until(BOB);
    expect(isGone(await store.get(BOB, signal))).toBe(true);
  },

  'a watch names what this store itself was told': async ({ store, signal }) => {
    const watched = await Watched.on(store, signal);
    await store.apply(manifest(ALICE), signal);
    await watched.until(ALICE);
    watched.mark();
    await store.delete(ALICE, signal);
    await watched.until(ALICE);
  },

  'a watch ends with its signal and leaves the others': async ({ backend, store, signal }) => {
    const first = new AbortController();
    const ended = await Watched.on(store, first.signal);
    const watched = await Watched.on(store, signal);
    first.abort(new Error('enough'));
    await backend.declare(manifest(ALICE));
    await watched.until(ALICE);
    expect(ended.edited).toEqual([]);
  },

  'a watch loses nothing over a break, and names every key after a gap': async ({
    backend,
    store,
    signal,
    harness,
  }) => {
    await backend.declare(manifest(ALICE));
    await backend.declare(manifest(BOB));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, BOB, signal));
    watched.mark();

    await backend.break();
    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('during-the-break')] } }));
    await backend.declare(manifest(CAROL));
    await backend.heal();

    await watched.until(ALICE, CAROL, ...(harness.resumes === true ? [] : [BOB]));
    await eventually(async () =>
      expect((await found(store, ALICE, signal)).plugins.map(({ name }) => name)).toEqual(['during-the-break']),
    );
    watched.mark();
    await backend.declare(manifest(BOB, { spec: { suspend: true } }));
    await watched.until(BOB);
  },

  'I-56: a back end that cannot be read is an error or the whole list, never an empty one': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    await backend.declare(manifest(ALICE));
    await backend.declare(manifest(BOB));
    await eventually(async () => expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]));
    await backend.break();

    const listed = await outcome(store.list(signal));
    if (listed instanceof Error) expectUnavailable(listed);
    else expect(listed.toSorted()).toEqual([ALICE, BOB]);
    const loaded = await outcome(store.get(ALICE, signal));
    if (loaded instanceof Error) expectUnavailable(loaded);
    else expect(loaded).toMatchObject({ kind: 'found', workspace: { key: ALICE, deleting: false } });

    // A process that starts now has no last good list to stand on.
    expectUnavailable(await outcome(openAnother().then((fresh) => fresh.list(signal))));
    expectUnavailable(await outcome(openAnother().then((fresh) => fresh.get(ALICE, signal))));

    await backend.heal();
    await eventually(async () => expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]));
  },

  'I-59: a malformed declaration fails alone and says where': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.declare(manifest(BOB));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, ALICE, signal));

    watched.mark();
    await backend.malform(ALICE);
    await watched.until(ALICE);
    const loaded = await eventually(async () => {
      const now = await store.get(ALICE, signal);
      if (now.kind !== 'malformed') throw new Error(`still ${now.kind}`);
      return now;
    });
    expect(loaded.key).toBe(ALICE);
    expect(loaded.problems.length).toBeGreaterThan(0);
    for (const problem of loaded.problems) expect(problem).toMatch(/\S/);
    expect(loaded.generation).toBeGreaterThan(0);
    expect((await store.list(signal)).toSorted()).toEqual([ALICE, BOB]);
    expect(await found(store, BOB, signal)).toMatchObject({ generation: 1 });

    watched.mark();
    await backend.declare(manifest(BOB, { spec: { suspend: true } }));
    await watched.until(BOB);
    expect((await found(store, BOB, signal)).suspend).toBe(true);

    watched.mark();
    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('mended')] } }));
    await watched.until(ALICE);
    const mended = await eventually(() => found(store, ALICE, signal));
    expect(mended.plugins.map(({ name }) => name)).toEqual(['mended']);
    expect(mended.generation).toBeGreaterThan(1);
  },

  'a malformed declaration has a status like any other': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.malform(ALICE);
    await eventually(async () => expect((await store.get(ALICE, signal)).kind).toBe('malformed'));
    const write = { key: ALICE, status: status(1), fence: backend.fence(1) };
    await store.writeStatus(write, signal);
    expect(await store.get(ALICE, signal)).toMatchObject({ kind: 'malformed', status: { summary: '1/2' } });
  },

  'a malformed declaration tells that a pass was asked for': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.malform(ALICE);
    await eventually(async () => expect((await store.get(ALICE, signal)).kind).toBe('malformed'));
    await store.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'now' }, signal);
    expect(await store.get(ALICE, signal)).toMatchObject({ kind: 'malformed', requestedAt: 'now' });
  },

  'the generation rises with every change of the spec and with nothing else': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    await backend.declare(manifest(ALICE));
    const first = await eventually(() => found(store, ALICE, signal));
    expect(first.generation).toBe(1);

    await backend.declare(manifest(ALICE, { metadata: { labels: { org: 'acme' }, annotations: { note: 'n' } } }));
    await eventually(async () => expect((await found(store, ALICE, signal)).annotations).toEqual({ note: 'n' }));
    expect((await found(store, ALICE, signal)).generation).toBe(1);
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    expect((await found(store, ALICE, signal)).generation).toBe(1);

    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('two')] } }));
    await eventually(async () => expect((await found(store, ALICE, signal)).generation).toBe(2));
    // Back to what it was is a change as well: an old status must not pass for the new one.
    await backend.declare(manifest(ALICE));
    await eventually(async () => expect((await found(store, ALICE, signal)).generation).toBe(3));
    expect((await found(await openAnother(), ALICE, signal)).generation).toBe(3);
  },

  'the time of a declaration stands still until the spec changes': async ({ backend, store, openAnother, signal }) => {
    await backend.declare(manifest(ALICE));
    const { declaredAtMs } = await eventually(() => found(store, ALICE, signal));
    expect(Number.isFinite(declaredAtMs) && declaredAtMs > 0).toBe(true);
    expect((await found(store, ALICE, signal)).declaredAtMs).toBe(declaredAtMs);
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    expect((await found(await openAnother(), ALICE, signal)).declaredAtMs).toBe(declaredAtMs);

    await eventually(async () => {
      // Two edits within one tick of the clock may carry one time; then edit again.
      const { generation } = await found(store, ALICE, signal);
      await backend.declare(manifest(ALICE, { spec: { plugins: [plugin(`edit-${generation}`)] } }));
      await eventually(async () => expect((await found(store, ALICE, signal)).generation).toBeGreaterThan(generation));
      expect((await found(store, ALICE, signal)).declaredAtMs).toBeGreaterThan(declaredAtMs);
    });
  },

  'an annotation wakes the workspace': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, ALICE, signal));
    watched.mark();
    await backend.declare(
      manifest(ALICE, { metadata: { annotations: { [REQUESTED_AT_ANNOTATION]: '2026-11-23T10:00:00Z' } } }),
    );
    await watched.until(ALICE);
    expect(await found(store, ALICE, signal)).toMatchObject({
      generation: 1,
      annotations: { [REQUESTED_AT_ANNOTATION]: '2026-11-23T10:00:00Z' },
    });
  },

  'a reconcile request sets the annotation, wakes the workspace and leaves its generation': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    await backend.declare(manifest(ALICE, { metadata: { annotations: { note: 'kept' } } }));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, ALICE, signal));
    const person = await openAnother();
    for (const token of ['first', 'second']) {
      watched.mark();
      expect(await person.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: token }, signal)).toBe(true);
      await watched.until(ALICE);
      const workspace = await found(store, ALICE, signal);
      expect(workspace.generation).toBe(1);
      expect(workspace.annotations).toEqual({ note: 'kept', [REQUESTED_AT_ANNOTATION]: token });
    }
    expect(await person.annotate(BOB, { [REQUESTED_AT_ANNOTATION]: 'third' }, signal)).toBe(false);
  },

  'what two people ask for at the same time is both known': async ({ backend, store, openAnother, signal }) => {
    await backend.declare(manifest(ALICE));
    await eventually(() => found(store, ALICE, signal));
    const [one, two] = [await openAnother(), await openAnother()];
    for (const text of ['1', '2', '3', '4', '5']) {
      await Promise.all([
        one.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: text }, signal),
        two.annotate(ALICE, { [APPROVED_PLAN_ANNOTATION]: text }, signal),
      ]);
      await backend.settled?.();
      const { annotations } = await found(one, ALICE, signal);
      expect(annotations).toEqual({ [REQUESTED_AT_ANNOTATION]: text, [APPROVED_PLAN_ANNOTATION]: text });
    }
  },

  'an approval wakes the workspace too, beside what else was asked for; of a deleted one as well': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    await backend.declare(manifest(ALICE, { spec: { policy: { deletion: 'Remove' } } }));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, ALICE, signal));
    await store.claim?.(ALICE, backend.fence(1), signal);
    const person = await openAnother();
    await person.annotate(ALICE, { [REQUESTED_AT_ANNOTATION]: 'now' }, signal);
    watched.mark();
    await person.annotate(ALICE, { [APPROVED_PLAN_ANNOTATION]: 'sha256:1' }, signal);
    await watched.until(ALICE);
    // What woke it may have been the annotation before.
    await eventually(async () =>
      expect((await found(store, ALICE, signal)).annotations).toEqual({
        [REQUESTED_AT_ANNOTATION]: 'now',
        [APPROVED_PLAN_ANNOTATION]: 'sha256:1',
      }),
    );
    await backend.remove(ALICE);
    await eventually(async () => expect((await found(store, ALICE, signal)).deleting).toBe(true));
    watched.mark();
    await person.annotate(ALICE, { [APPROVED_PLAN_ANNOTATION]: 'sha256:2' }, signal);
    await watched.until(ALICE);
    await eventually(async () =>
      expect((await found(store, ALICE, signal)).annotations).toMatchObject({ [APPROVED_PLAN_ANNOTATION]: 'sha256:2' }),
    );
  },

  'a status comes back as it was written': async ({ backend, store, openAnother, signal }) => {
    await backend.declare(manifest(ALICE));
    expect((await eventually(() => loadFound(store, ALICE, signal))).status).toEqual(EMPTY_STATUS);
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    expect((await loadFound(store, ALICE, signal)).status).toEqual(status(1));
    expect((await loadFound(await openAnother(), ALICE, signal)).status).toEqual(status(1));

    const later: WorkspaceStatus = { ...EMPTY_STATUS, observedGeneration: 2, summary: '0/0', target: 'elsewhere' };
    await store.writeStatus({ key: ALICE, status: later, fence: backend.fence(1) }, signal);
    expect((await loadFound(store, ALICE, signal)).status).toEqual(later);
  },

  'a status whose rows change places comes back as it was written': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await eventually(() => loadFound(store, ALICE, signal));
    const { conditions, plugins, ...rest } = status(1);
    const [ready, reachable] = conditions as [Condition, Condition];
    const [installed, failed] = plugins as [PluginStatus, PluginStatus];
    const stalled: Condition = { ...ready, type: 'Stalled', status: 'True' };
    const third: PluginStatus = { ...failed, name: pluginName('another') };
    for (const next of [
      { conditions: [ready, stalled, reachable], plugins: [failed, installed] },
      { conditions: [ready, reachable], plugins: [third, failed, installed] },
      { conditions: [ready, { ...reachable, status: 'Unknown' }], plugins: [installed, third] },
      { conditions: [stalled], plugins: [failed, third, installed] },
    ] as const) {
      const written: WorkspaceStatus = { ...rest, ...next };
      await store.writeStatus({ key: ALICE, status: written, fence: backend.fence(1) }, signal);
      expect((await loadFound(store, ALICE, signal)).status).toEqual(written);
    }
  },

  'a status write wakes nothing': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.declare(manifest(BOB));
    const watched = await Watched.on(store, signal);
    await eventually(() => found(store, BOB, signal));
    // An edit behind it is the barrier: once that one is named, the status write would have been.
    await backend.declare(manifest(BOB, { spec: { suspend: true } }));
    await watched.until(BOB);
    // Read, too: a store that looks now and then does not hear of an edit that is taken back in between.
    await eventually(async () => expect((await found(store, BOB, signal)).suspend).toBe(true));
    watched.mark();
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    await backend.declare(manifest(BOB, { spec: { suspend: false } }));
    await watched.until(BOB);
    expect(watched.edited).not.toContain(ALICE);
  },

  'the status of a key that is gone is not written': async ({ backend, store, signal }) => {
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
    expect(await store.list(signal)).toEqual([]);
    await backend.declare(manifest(ALICE));
    expect((await eventually(() => loadFound(store, ALICE, signal))).status).toEqual(EMPTY_STATUS);
  },

  'a write under an older turn than the store has seen is refused': async ({ backend, store, openAnother, signal }) => {
    await backend.declare(manifest(ALICE, REMOVE));
    await backend.declare(manifest(BOB));
    await eventually(() => found(store, BOB, signal));
    const write = (turn: number, summary: string): StatusWrite => ({
      key: ALICE,
      status: { ...status(1), summary },
      fence: backend.fence(turn),
    });
    await eventually(() => found(store, ALICE, signal));
    await store.writeStatus(write(2, '2/2'), signal);
    const stale = await openAnother();
    expectAborted(await outcome(stale.writeStatus(write(1, 'stale'), signal)));
    // The fence is one for the store, not one for each workspace.
    expectAborted(await outcome(stale.writeStatus({ ...write(1, 'stale'), key: BOB }, signal)));
    expect((await loadFound(store, ALICE, signal)).status.summary).toBe('2/2');
    await store.writeStatus(write(2, 'same turn'), signal);
    await stale.writeStatus(write(3, 'next turn'), signal);
    await backend.settled?.();
    expect((await loadFound(store, ALICE, signal)).status.summary).toBe('next turn');

    await store.claim?.(ALICE, backend.fence(3), signal);
    await backend.remove(ALICE);
    await eventually(async () => expect((await found(store, ALICE, signal)).deleting).toBe(true));
    expectAborted(await outcome(store.finishDeletion(ALICE, backend.fence(2), signal)));
    expect((await found(store, ALICE, signal)).deleting).toBe(true);
  },

  'a deleted workspace leaves a tombstone with its spec until its deletion is finished': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    await backend.declare(manifest(ALICE, REMOVE));
    const before = await eventually(() => found(store, ALICE, signal));
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    await store.claim?.(ALICE, backend.fence(1), signal);
    const watched = await Watched.on(store, signal);
    await backend.remove(ALICE);
    await watched.until(ALICE);

    const tombstone = await eventually(async () => {
      const loaded = await loadFound(store, ALICE, signal);
      expect(loaded.workspace.deleting).toBe(true);
      return loaded;
    });
    expect({ ...withoutOrigins(tombstone.workspace), generation: 0, declaredAtMs: 0 }).toEqual({
      ...withoutOrigins(before),
      deleting: true,
      generation: 0,
      declaredAtMs: 0,
    });
    expect(tombstone.workspace.generation).toBeGreaterThanOrEqual(before.generation);
    expect(tombstone.workspace.declaredAtMs).toBeGreaterThanOrEqual(before.declaredAtMs);
    expect(tombstone.status).toEqual(status(1));
    expect(await store.list(signal)).toEqual([ALICE]);
    const restarted = await openAnother();
    expect(await restarted.list(signal)).toEqual([ALICE]);
    const { deleting, declaredAtMs } = await found(restarted, ALICE, signal);
    expect({ deleting, declaredAtMs }).toEqual({ deleting: true, declaredAtMs: tombstone.workspace.declaredAtMs });

    const removing: WorkspaceStatus = { ...status(1), summary: 'removing' };
    await store.writeStatus({ key: ALICE, status: removing, fence: backend.fence(1) }, signal);
    expect((await loadFound(store, ALICE, signal)).status.summary).toBe('removing');

    await store.finishDeletion(ALICE, backend.fence(1), signal);
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
    expect(await store.list(signal)).toEqual([]);
    await store.finishDeletion(ALICE, backend.fence(1), signal);

    await backend.declare(manifest(ALICE, REMOVE));
    expect((await eventually(() => loadFound(store, ALICE, signal))).status).toEqual(EMPTY_STATUS);
  },

  'a deletion waits for whoever has claimed the workspace, and where claims are made for nobody else': async ({
    backend,
    store,
    openAnother,
    signal,
  }) => {
    for (const key of [ALICE, BOB, CAROL]) await backend.declare(manifest(key, REMOVE));
    const before = await eventually(() => found(store, BOB, signal));
    // Another process of the same controller may have claimed it before.
    for (const claiming of [store, store, await openAnother()]) await claiming.claim?.(BOB, backend.fence(1), signal);
    expect(await found(store, BOB, signal)).toEqual(before);
    for (const key of [ALICE, BOB]) await backend.remove(key);
    const left = store.claim === undefined ? [ALICE, BOB] : [BOB];
    await eventually(async () => {
      expect((await store.list(signal)).toSorted()).toEqual([CAROL, ...left]);
      for (const key of left) expect((await found(store, key, signal)).deleting).toBe(true);
    });
    for (const key of left) await store.finishDeletion(key, backend.fence(1), signal);
    expect(await store.list(signal)).toEqual([CAROL]);
  },

  [CLAIM_OF_A_DELETED]: async ({ backend, store, signal }) => {
    const claim = async (key: WorkspaceKey): Promise<unknown> => outcome(store.claim!(key, backend.fence(1), signal));
    const refusal = { name: 'ReconcileError', class: 'waiting', reason: 'Deleting' };
    expect(await claim(ALICE)).toMatchObject(refusal);
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });

    await backend.declare(manifest(ALICE, REMOVE));
    await eventually(() => found(store, ALICE, signal));
    expect(await claim(ALICE)).toBeUndefined();
    await backend.remove(ALICE);
    await eventually(async () => expect((await found(store, ALICE, signal)).deleting).toBe(true));
    expect(await claim(ALICE)).toMatchObject(refusal);
    await store.finishDeletion(ALICE, backend.fence(1), signal);
    expect(await claim(ALICE)).toMatchObject(refusal);
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
  },

  [CLAIM_OF_A_PAST_TURN]: async ({ backend, store, openAnother, signal }) => {
    await backend.declare(manifest(ALICE, REMOVE));
    await eventually(() => found(store, ALICE, signal));
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(2) }, signal);
    const stale = await openAnother();
    await eventually(() => found(stale, ALICE, signal));
    expectAborted(await outcome(stale.claim!(ALICE, backend.fence(1), signal)));
    await backend.remove(ALICE);
    await eventually(async () => expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' }));
  },

  'a deletion that may leave the target alone is a tombstone that says so, or ends at once': async ({
    backend,
    store,
    signal,
  }) => {
    await backend.declare(manifest(ALICE, { spec: { policy: { deletion: 'Orphan' } } }));
    await eventually(() => found(store, ALICE, signal));
    await store.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    await backend.remove(ALICE);
    const loaded = await eventually(async () => {
      const now = await store.get(ALICE, signal);
      expect(isGone(now)).toBe(true);
      return now;
    });
    if (loaded.kind === 'found') expect(loaded.workspace.policy.deletion).toBe('Orphan');
    await store.finishDeletion(ALICE, backend.fence(1), signal);
    expect(await store.get(ALICE, signal)).toEqual({ kind: 'absent' });
    expect(await store.list(signal)).toEqual([]);
  },

  'a workspace that is declared anew during its deletion is declared': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE, REMOVE));
    const before = await eventually(() => found(store, ALICE, signal));
    await store.claim?.(ALICE, backend.fence(1), signal);
    await backend.remove(ALICE);
    await eventually(async () => expect((await found(store, ALICE, signal)).deleting).toBe(true));

    const watched = await Watched.on(store, signal);
    await backend.declare(manifest(ALICE, { spec: { ...REMOVE.spec, plugins: [plugin('anew')] } }));
    await watched.until(ALICE);
    const anew = await eventually(async () => {
      const workspace = await found(store, ALICE, signal);
      expect(workspace.deleting).toBe(false);
      return workspace;
    });
    expect(anew.plugins.map(({ name }) => name)).toEqual(['anew']);
    expect(anew.generation).toBeGreaterThan(before.generation);

    await store.finishDeletion(ALICE, backend.fence(1), signal);
    expect(await found(store, ALICE, signal)).toMatchObject({ deleting: false, generation: anew.generation });
    expect(await store.list(signal)).toEqual([ALICE]);
  },

  'apply says what it did, and does nothing twice': async ({ store, signal }) => {
    expect(await store.apply(manifest(ALICE), signal)).toBe('created');
    expect((await found(store, ALICE, signal)).generation).toBe(1);
    expect(await store.apply(manifest(ALICE), signal)).toBe('unchanged');
    const edited = manifest(ALICE, {
      spec: { plugins: [plugin('two', { digest: DIGEST })], policy: { drift: 'Warn' } },
    });
    expect(await store.apply(edited, signal)).toBe('configured');
    expect(await found(store, ALICE, signal)).toMatchObject({
      generation: 2,
      plugins: [{ name: 'two', digest: DIGEST }],
      policy: { drift: 'Warn' },
    });
    expect(await store.apply(edited, signal)).toBe('unchanged');
    const labelled = { ...edited, metadata: { ...edited.metadata, labels: { org: 'acme' } } };
    expect(await store.apply(labelled, signal)).toBe('configured');
    expect(await found(store, ALICE, signal)).toMatchObject({ generation: 2, labels: { org: 'acme' } });
    // What the new manifest does not say any more is taken out.
    expect(await store.apply(manifest(ALICE, { spec: { plugins: [] } }), signal)).toBe('configured');
    expect(await found(store, ALICE, signal)).toMatchObject({ generation: 3, labels: {}, plugins: [] });
  },

  'apply keeps the order of plugins and a missing namespace means default': async ({ store, signal }) => {
    const plugins = [plugin('zeta'), plugin('alpha'), plugin('mid')];
    const written = manifest(CAROL, { spec: { plugins } });
    const { namespace: _, ...metadata } = written.metadata;
    expect(await store.apply({ ...written, metadata }, signal)).toBe('created');
    expect((await found(store, CAROL, signal)).plugins.map(({ name }) => name)).toEqual(['zeta', 'alpha', 'mid']);
    expect(await store.apply(written, signal)).toBe('unchanged');
  },

  'apply mends a malformed declaration': async ({ backend, store, signal }) => {
    await backend.declare(manifest(ALICE));
    await backend.malform(ALICE);
    await eventually(async () => expect((await store.get(ALICE, signal)).kind).toBe('malformed'));
    expect(await store.apply(manifest(ALICE, { spec: { plugins: [plugin('mended')] } }), signal)).toBe('configured');
    expect((await found(store, ALICE, signal)).plugins.map(({ name }) => name)).toEqual(['mended']);
  },

  'delete takes a declaration out, once': async ({ backend, store, signal }) => {
    await store.apply(manifest(ALICE, REMOVE), signal);
    await store.apply(manifest(BOB), signal);
    await store.claim?.(ALICE, backend.fence(1), signal);
    expect(await store.delete(ALICE, signal)).toBe(true);
    expect((await found(store, ALICE, signal)).deleting).toBe(true);
    expect(await store.delete(ALICE, signal)).toBe(false);
    expect(await store.delete(CAROL, signal)).toBe(false);
    expect((await found(store, BOB, signal)).deleting).toBe(false);
    await store.finishDeletion(ALICE, backend.fence(1), signal);
    expect(await store.list(signal)).toEqual([BOB]);
    expect(await store.delete(ALICE, signal)).toBe(false);
  },

  'two stores on one back end see the same': async ({ backend, store, openAnother, signal }) => {
    const other = await openAnother();
    const watched = await Watched.on(other, signal);
    await store.apply(manifest(ALICE), signal);
    await watched.until(ALICE);
    await eventually(async () =>
      expect(withoutOrigins(await found(other, ALICE, signal))).toEqual(
        withoutOrigins(await found(store, ALICE, signal)),
      ),
    );

    await other.writeStatus({ key: ALICE, status: status(1), fence: backend.fence(1) }, signal);
    await backend.settled?.();
    expect((await loadFound(store, ALICE, signal)).status).toEqual(status(1));

    await backend.declare(manifest(ALICE, { spec: { plugins: [plugin('two')] } }));
    await eventually(async () => expect((await found(store, ALICE, signal)).generation).toBe(2));
    await eventually(async () => expect((await found(other, ALICE, signal)).generation).toBe(2));
    expect((await found(other, ALICE, signal)).declaredAtMs).toBe((await found(store, ALICE, signal)).declaredAtMs);
  },

  'many workspaces are all listed and each is found': async ({ backend, store, signal }) => {
    const keys = Array.from({ length: 40 }, (_, index) => keyOf(`fleet/w-${index}`));
    for (const key of keys) await backend.declare(manifest(key));
    await eventually(async () => expect((await store.list(signal)).toSorted()).toEqual(keys.toSorted()));
    const workspaces = await Promise.all(keys.map((key) => found(store, key, signal)));
    expect(workspaces.map(({ key }) => key)).toEqual(keys);
  },

  'an aborted signal ends a call': async ({ store }) => {
    const reason = new Error('stopping');
    expect(await outcome(store.list(AbortSignal.abort(reason)))).toBeInstanceOf(Error);
    expect(await outcome(store.get(ALICE, AbortSignal.abort(reason)))).toBeInstanceOf(Error);
  },

  'close is idempotent and ends the watches': async ({ backend, openAnother, signal }) => {
    const store = await openAnother();
    const ended = await Watched.on(store, signal);
    await store.close();
    await store.close();
    const watched = await Watched.on(await openAnother(), signal);
    await backend.declare(manifest(ALICE));
    await watched.until(ALICE);
    expect(ended.edited).toEqual([]);
  },
};

const DIGEST = `sha256:${'4f'.repeat(32)}` as const;
const REMOVE = { spec: { policy: { deletion: 'Remove' } } } as const satisfies Changes;

interface Changes {
  readonly metadata?: Partial<WorkspaceManifest['metadata']>;
  readonly spec?: Partial<WorkspaceManifest['spec']>;
}

function manifest(key: WorkspaceKey, changes: Changes = {}): WorkspaceManifest {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name, namespace, ...changes.metadata },
    spec: {
      runtime: 'claude-code',
      target: { directory: { path: `/srv/agents/${name}` } },
      plugins: [plugin('superpowers')],
      ...changes.spec,
    },
  };
}

type PluginEntry = WorkspaceManifest['spec']['plugins'][number];

function plugin(name: string, more: Partial<PluginEntry> = {}): PluginEntry {
  return { name, source: `local://${name}`, ...more };
}

function status(observedGeneration: number): WorkspaceStatus {
  const at = '2026-11-23T10:00:00.000Z';
  return {
    observedGeneration,
    conditions: [
      {
        type: 'Ready',
        status: 'False',
        reason: 'PluginNotFound',
        message: 'it\'s "gone"\nlook: ½',
        observedGeneration,
        lastTransitionTime: at,
      },
      {
        type: 'Reachable',
        status: 'True',
        reason: 'Succeeded',
        message: '',
        observedGeneration,
        lastTransitionTime: at,
      },
    ],
    summary: '1/2',
    target: 'container ws-alice on engine default',
    plugins: [
      {
        name: pluginName('superpowers'),
        state: 'Installed',
        managed: true,
        source: 'local://superpowers',
        revision: 'abc',
        digest: DIGEST,
        version: '4.1.0',
        reason: 'Succeeded',
        message: '',
        since: at,
      },
      {
        name: pluginName('lost'),
        state: 'Failed',
        managed: false,
        reason: 'PluginNotFound',
        message: 'no such ref',
        since: at,
      },
    ],
    converged: { superpowers: DIGEST },
    planId: DIGEST,
    history: [
      { planId: DIGEST, outcome: 'Partial', summary: 'install superpowers', firstAt: at, lastAt: at, times: 3 },
    ],
    lastHandledReconcileAt: 'token',
    corrective: 2,
    intentional: 5,
  };
}

type Found = Extract<Loaded, { kind: 'found' }>;

async function loadFound(store: WorkspaceStore, key: WorkspaceKey, signal: AbortSignal): Promise<Found> {
  const loaded = await store.get(key, signal);
  if (loaded.kind === 'found') return loaded;
  throw new Error(`${key} is ${loaded.kind}${loaded.kind === 'malformed' ? `: ${loaded.problems.join('; ')}` : ''}`);
}

async function found(store: WorkspaceStore, key: WorkspaceKey, signal: AbortSignal): Promise<Workspace> {
  return (await loadFound(store, key, signal)).workspace;
}

/** Not declared any more, whether its target has still to be cleaned or not. */
function isGone(loaded: Loaded): boolean {
  return loaded.kind === 'absent' || (loaded.kind === 'found' && loaded.workspace.deleting);
}

/** Where an entry stands may change with its neighbours. */
function withoutOrigins(workspace: Workspace): Workspace {
  return { ...workspace, plugins: workspace.plugins.map((entry) => ({ ...entry, origin: '' })) };
}

/** What a call came to: its answer, or the error it threw. */
async function outcome<T>(call: Promise<T>): Promise<T | Error> {
  return call.catch((error: unknown) => {
    if (error instanceof Error) return error;
    throw error;
  });
}

function expectUnavailable(result: unknown): void {
  expect(result).toMatchObject({ name: 'ReconcileError', class: 'transient', reason: 'StoreUnavailable' });
}

function expectAborted(result: unknown): void {
  expect(result).toMatchObject({ name: 'ReconcileError', class: 'aborted', reason: 'NotLeader' });
}

function keyOf(text: string): WorkspaceKey {
  const key = parseWorkspaceKey(text);
  if (key === undefined) throw new Error(`not a key: ${text}`);
  return key;
}

function pluginName(text: string): NonNullable<ReturnType<typeof parsePluginName>> {
  const name = parsePluginName(text);
  if (name === undefined) throw new Error(`not a name: ${text}`);
  return name;
}
