import { describe, expect, it } from 'vitest';

import type { Grant } from '../../../src/domain/grant.ts';
import { StateSweep } from '../../../src/reconcile/state-sweep.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryControllerState, MemoryStateBackend } from '../../support/memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../../support/memory-store.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';

const HOUR = 3_600_000;
const NOW = 100 * HOUR;
const { signal } = new AbortController();

describe('the sweep of documents', () => {
  const sweepOver = async (
    documents: Readonly<Record<string, unknown>>,
    unread: readonly string[] = [],
  ): Promise<readonly string[]> => {
    const clock = new FakeClock({ startMs: NOW });
    const backend = new MemoryStateBackend();
    const state = new MemoryControllerState(backend);
    const declared = new MemoryStoreBackend(clock);
    declared.declare({
      apiVersion: 'plugset.dev/v1alpha1',
      kind: 'Workspace',
      metadata: { name: 'declared' },
      spec: { runtime: 'hermes', target: { external: {} }, plugins: [] },
    });
    for (const [key, value] of Object.entries(documents)) await state.compareAndSwap(key, undefined, value, signal);
    const store = Object.assign(new MemoryWorkspaceStore(declared), {
      unread: () => new Map(unread.map((namespace) => [namespace, 'refused'])),
    });
    await new StateSweep({ state, clock, store, providers: [], logger: new RecordingLogger() }).sweep(signal);
    return [...backend.documents.keys()];
  };
  const pending = (agoMs: number): unknown => ({
    restartsMs: [],
    pending: { identity: 'x', startedAtMs: 1, firstAtMs: 1, lastAtMs: NOW - agoMs },
  });
  const grant = (agoMs: number): Grant => ({ text: 'x@now', by: 'ann', atMs: NOW - agoMs });

  it('keeps budgets of workspaces that are gone until they have aged out', async () => {
    expect(
      await sweepOver({
        'activation/default/spent': { restartsMs: [NOW - HOUR / 2, NOW - 2 * HOUR] },
        'activation/default/aged': { restartsMs: [NOW - 2 * HOUR] },
        'activation/default/pending': pending(HOUR / 2),
        'activation/default/vanished': pending(2 * HOUR),
        'activation/default/declared': pending(2 * HOUR),
        'removals/default/lately': [{ plugin: 'a', atMs: NOW - HOUR / 2 }],
        'removals/default/declared': [{ plugin: 'a', atMs: NOW - 2 * HOUR }],
        'emptied/lately': [{ workspace: 'lately/w1', atMs: NOW - HOUR / 2 }],
        'emptied/default': [{ workspace: 'default/w1', atMs: NOW - 2 * HOUR }],
      }),
    ).toEqual([
      'activation/default/spent',
      'activation/default/pending',
      'activation/default/declared',
      'removals/default/lately',
      'emptied/lately',
    ]);
  });

  it('keeps what belongs to a namespace that nobody may read now', async () => {
    const documents = { 'activation/team-b/alice': pending(2 * HOUR) };
    expect(await sweepOver(documents, ['team-b'])).toEqual(Object.keys(documents));
    expect(await sweepOver(documents)).toEqual([]);
  });

  it('removes grants that nobody could use', async () => {
    const left = await sweepOver({
      'approval/default/declared': grant(HOUR),
      'approval/default/gone': grant(25 * HOUR),
      'takeover/default/declared': grant(25 * HOUR),
    });
    expect(left).toEqual(['approval/default/declared']);
  });

  it('leaves what it cannot read, and what is of the whole fleet', async () => {
    const documents = { 'activation/default/gone': 'damaged', 'removals/default/gone': 1, 'fleet/removed': [] };
    expect(await sweepOver(documents)).toEqual(Object.keys(documents));
  });
});
