import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { transient } from '../../../src/domain/errors.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import type { Workspace } from '../../../src/domain/workspace.ts';
import type { TargetProvider } from '../../../src/ports/workspace-target.ts';
import {
  LOOK_FOR_NEW_MS,
  PREPARE_AGAIN_MS,
  prepareTargets,
  type PrepareOptions,
} from '../../../src/reconcile/prepare-targets.ts';
import { eventually } from '../../support/eventually.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { RecordingLogger } from '../../support/recording-logger.ts';
import { workspaceAt } from '../../support/workspaces.ts';

let clock: FakeClock;
let declared: Workspace[];
let reads: number;
let prepared: string[];
let stop: AbortController;
let running: Promise<void>;

beforeEach(() => {
  clock = new FakeClock();
  declared = ['alice', 'bob', 'carol'].map((name) => workspaceAt({ pod: {} }, { name }));
  reads = 0;
  prepared = [];
  stop = new AbortController();
});
afterEach(async () => {
  stop.abort();
  await running;
  expect(clock.pendingTimers).toBe(0);
});

/** Of a store that cannot read the second one. */
const store: PrepareOptions['store'] = {
  list: async () => {
    reads += 1;
    return declared.map(({ key }) => key);
  },
  declarations: async (keys) =>
    new Map(
      keys.map((key) => [key, key.endsWith('/bob') ? undefined : declared.find((workspace) => workspace.key === key)]),
    ),
};

function start(options: Partial<PrepareOptions>): void {
  const logger = new RecordingLogger();
  running = prepareTargets({ store, providers: [pods], clock, logger, ...options }, stop.signal);
}

const plain: TargetProvider = {
  kind: 'pod',
  addresses: () => [],
  lane: () => 'pod',
  locate: async () => await Promise.reject(new Error('nobody leads here')),
  close: async () => undefined,
};
const pods: TargetProvider = {
  ...plain,
  prepare: async ({ key }) => {
    prepared.push(key);
    if (key.endsWith('/alice')) throw transient('Unreachable', 'nobody answers');
  },
};

describe('preparing targets', () => {
  it('is done of everything that can be read, soon of what comes later, and again of all until another begins', async () => {
    start({});
    const both = [workspaceKey('team-a', 'alice'), workspaceKey('team-a', 'carol')];
    const dave = workspaceKey('team-a', 'dave');
    await eventually(() => expect(prepared).toEqual(both));
    await eventually(() => expect(clock.pendingTimers).toBe(1));
    declared = [...declared, workspaceAt({ pod: {} }, { name: 'dave' })];
    clock.tick(LOOK_FOR_NEW_MS * 1.1);
    await eventually(() => expect(prepared).toEqual([...both, dave]));
    await eventually(() => expect(clock.pendingTimers).toBe(1));
    clock.tick(PREPARE_AGAIN_MS * 1.1);
    await eventually(() => expect(prepared).toEqual([...both, dave, ...both, dave]));
    stop.abort();
    await running;
    expect(reads).toBe(3);
  });

  it('is done of what could not be told the time before', async () => {
    const declarations = store.declarations?.bind(store);
    let isAway = false;
    const flaky: PrepareOptions['store'] = {
      ...store,
      declarations: async (...args) => {
        if (isAway || declarations === undefined) throw transient('StoreUnavailable', 'nobody answers');
        return declarations(...args);
      },
    };
    start({ store: flaky });
    await eventually(() => expect(prepared).toHaveLength(2));
    await eventually(() => expect(clock.pendingTimers).toBe(1));
    isAway = true;
    declared = [...declared, workspaceAt({ pod: {} }, { name: 'dave' })];
    clock.tick(LOOK_FOR_NEW_MS * 1.1);
    await eventually(() => expect([reads, clock.pendingTimers]).toEqual([2, 1]));
    isAway = false;
    clock.tick(LOOK_FOR_NEW_MS * 1.1);
    await eventually(() => expect(prepared[2]).toBe(workspaceKey('team-a', 'dave')));
  });

  it('outlasts a store that does not answer', async () => {
    const list = async (): Promise<never> => {
      reads += 1;
      throw transient('StoreUnavailable', 'nobody answers');
    };
    start({ store: { ...store, list } });
    await eventually(() => expect(clock.pendingTimers).toBe(1));
    clock.tick(LOOK_FOR_NEW_MS * 1.1);
    await eventually(() => expect(reads).toBe(2));
  });

  it('reads nothing where no target can be prepared', async () => {
    start({ providers: [plain] });
    stop.abort();
    await running;
    expect(reads).toBe(0);
  });

  it('is nothing for a store that would read each declaration alone', async () => {
    start({ store: { list: store.list } });
    stop.abort();
    await running;
    expect(reads).toBe(0);
  });
});
