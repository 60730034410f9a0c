import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { terminal, transient, waiting } from '../../src/domain/errors.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import type { TargetProvider } from '../../src/ports/workspace-target.ts';
import { Turn } from '../../src/turn.ts';
import { eventually } from '../support/eventually.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { createSmallWorld, type SmallWorld } from '../support/small-world.ts';

const FLEET = 20;
const HOUR = 3_600_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 4,
  laneLimit: 4,
  probeIntervalMs: HOUR,
  deepIntervalMs: HOUR,
  resolveIntervalMs: HOUR,
  // So slow that no first pass comes within this test: what is queued was woken by something else.
  firstPassPerSecond: 1e-6,
  graceMs: 1000,
};

describe('a turn', () => {
  let world: SmallWorld;
  let stop: AbortController;
  let ended: Promise<void>;

  beforeEach(async () => {
    world = await createSmallWorld();
    stop = new AbortController();
    ended = Promise.resolve();
    for (let n = 0; n < FLEET; n++) await declare(`w${n}`);
  });
  afterEach(async () => {
    stop.abort();
    await ended;
    await world.close();
  });

  const declare = async (name: string): Promise<void> => {
    const path = join(world.dirs.root, name);
    await mkdir(path, { recursive: true });
    world.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name },
      spec: { runtime: 'hermes', target: { directory: { path } }, plugins: [] },
    });
  };
  const outcomes = (): readonly unknown[] => world.metrics.argsOf('reconciled').map(([outcome]) => outcome);
  const queued = (): number => world.metrics.argsOf('queueAdded').length;

  /** A provider that is told of its first gap as soon as it is watched, as Docker's is when the stream has opened. */
  const start = async (): Promise<{ readonly onGap: () => void; readonly onStir: (address: string) => void }> => {
    const watching = new Promise<{ onGap: () => void; onStir: (address: string) => void }>((resolve) => {
      const [provider] = world.ports.providers;
      if (provider === undefined) throw new Error('the world has no target provider');
      const watched: TargetProvider = {
        kind: provider.kind,
        addresses: (workspace) => provider.addresses(workspace),
        lane: (workspace) => provider.lane(workspace),
        locate: (workspace, signal) => provider.locate(workspace, signal),
        close: () => provider.close(),
        watch: (onStir, onGap) => resolve({ onStir, onGap }),
      };
      const term = { fence: { authority: 'us', epoch: 1, n: 1 }, signal: new AbortController().signal };
      const ports = { ...world.ports, providers: [watched] };
      ended = new Turn(ports, LIMITS, { ...term, release: async () => undefined }).run(stop.signal);
    });
    return watching;
  };

  it('that is to end before it has begun, while the store is still read, ends like any other', async () => {
    let isListing = false;
    const { store } = world.ports;
    const slow = Object.assign(Object.create(store) as typeof store, {
      watch: (...args: Parameters<typeof store.watch>) => store.watch(...args),
      list: async (signal: AbortSignal) => {
        isListing = true;
        return await new Promise<never>((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        });
      },
    });
    const term = { fence: { authority: 'us', epoch: 1, n: 1 }, signal: new AbortController().signal };
    const turn = new Turn({ ...world.ports, store: slow }, LIMITS, { ...term, release: async () => undefined });
    const run = turn.run(stop.signal);
    await eventually(() => expect(isListing).toBe(true));
    stop.abort();
    await expect(run).resolves.toBeUndefined();
  });

  describe('that begins while the store refuses', () => {
    let clock: FakeClock;
    let tries: number;
    let run: Promise<void>;
    let watchers: Set<AbortSignal>;
    beforeEach(() => {
      clock = new FakeClock();
      tries = 0;
      watchers = new Set();
    });

    /** The first `refusals` lists fail. */
    function begin(refusals: number, error: () => Error): Turn {
      const { store } = world.ports;
      const busy = Object.assign(Object.create(store) as typeof store, {
        watch: async (_onKey: unknown, signal: AbortSignal) => {
          watchers.add(signal);
          signal.addEventListener('abort', () => watchers.delete(signal), { once: true });
        },
        list: async (signal: AbortSignal) => {
          tries += 1;
          if (tries <= refusals) throw error();
          return store.list(signal);
        },
        get: (...args: Parameters<typeof store.get>) => store.get(...args),
      });
      const term = { fence: { authority: 'us', epoch: 1, n: 1 }, signal: new AbortController().signal };
      const ports = { ...world.ports, store: busy, clock };
      const turn = new Turn(ports, LIMITS, { ...term, release: async () => undefined });
      run = turn.run(stop.signal);
      ended = run.catch(() => undefined);
      return turn;
    }
    const busy = (): Error => waiting('StoreUnavailable', 'HTTP 429 TooManyRequests', 3_000);

    it('waits in its turn, with the pause that was asked for, and listens once', async () => {
      const turn = begin(2, busy);
      for (const n of [1, 2]) {
        await eventually(() => expect([tries, clock.pendingTimers]).toEqual([n, 1]));
        expect(turn.unready()).toBe('HTTP 429 TooManyRequests');
        await clock.advance(2_999);
        expect(tries).toBe(n);
        await clock.advance(1);
      }
      await eventually(() => expect(turn.unready()).toBeUndefined());
      expect(watchers.size).toBe(1);
      expect(world.logger.at('warn')).toHaveLength(1);
      stop.abort();
      await run;
    });

    it('gives the turn back after half a minute, and at once for what a pause does not help', async () => {
      begin(Infinity, () => transient('StoreUnavailable', 'HTTP 500 InternalError'));
      const failed = run.catch((error: unknown) => error);
      await eventually(async () => {
        await clock.advance(1_000);
        expect(tries).toBe(31);
      });
      expect(await failed).toMatchObject({ reason: 'StoreUnavailable', message: 'HTTP 500 InternalError' });
      expect(watchers.size).toBe(0);
      begin(Infinity, () => terminal('InvalidSpec', 'no such context'));
      await expect(run).rejects.toThrow('no such context');
      expect(tries).toBe(32);
    });
  });

  it('after a gap in the events of targets, looks at them at the pace of the first pass', async () => {
    const { onGap } = await start();
    onGap();
    expect(queued()).toBe(0);
  });

  it('after a gap in the store, looks at what it names at the pace of the first pass, and at edits at once', async () => {
    await start();
    for (const key of world.backend.rows.keys()) world.backend.name(key, 'relist');
    expect(queued()).toBe(0);
    await declare('w7');
    await eventually(() => expect(outcomes()).toEqual(['requeue_after']));
    expect(queued()).toBe(1);
  });

  it('hosts that let logins hang have some of the workers to share, however many they are', async () => {
    const hung = new Map<string, () => void>();
    const known = new Set<string>();
    const [provider] = world.ports.providers;
    if (provider === undefined) throw new Error('the world has no target provider');
    const oneHostEach: TargetProvider = {
      kind: provider.kind,
      addresses: (workspace) => provider.addresses(workspace),
      lane: ({ key }) => `ssh:${key}`,
      slowLane: 'ssh:slow',
      locate: async (workspace, signal) => {
        const { key } = workspace;
        if (key.startsWith('default/w')) {
          await new Promise<void>((resolve) => hung.set(key, resolve));
          hung.delete(key);
          known.add(key);
          throw transient('Unreachable', `${key} lets nobody in`);
        }
        return provider.locate(workspace, signal);
      },
      close: () => provider.close(),
    };
    const term = { fence: { authority: 'us', epoch: 1, n: 1 }, signal: new AbortController().signal };
    const limits = { ...LIMITS, laneLimit: 2, firstPassPerSecond: 1000 };
    const ports = { ...world.ports, providers: [oneHostEach] };
    ended = new Turn(ports, limits, { ...term, release: async () => undefined }).run(stop.signal);
    try {
      // Nobody knows of them in their first passes: all of the workers.
      await eventually(() => expect(hung.size).toBe(LIMITS.workers));
      await eventually(() => {
        for (const giveUp of hung.values()) giveUp();
        expect(known.size).toBe(FLEET);
      });
      await eventually(() => expect(hung.size).toBe(limits.laneLimit));
      for (const name of ['one', 'two', 'three']) await declare(name);
      await eventually(() => expect(outcomes().filter((one) => one === 'requeue_after')).toHaveLength(3));
      expect(hung.size).toBe(limits.laneLimit);
    } finally {
      stop.abort();
      for (const giveUp of hung.values()) giveUp();
    }
  });

  it('a target that stirs is looked at at once, and its workspace alone', async () => {
    const { onStir } = await start();
    const [provider] = world.ports.providers;
    const loaded = await world.ports.store.get(workspaceKey('default', 'w3'), stop.signal);
    if (loaded.kind !== 'found') throw new Error('w3 is not declared');
    for (const address of provider?.addresses(loaded.workspace) ?? []) onStir(address);
    await eventually(() => expect(outcomes()).toEqual(['requeue_after']));
    expect(queued()).toBe(1);
  });
});
