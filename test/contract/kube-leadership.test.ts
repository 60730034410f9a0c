import { once } from 'node:events';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KubeControllerState } from '../../src/adapters/kube/kube-controller-state.ts';
import { FENCE_KEY } from '../../src/adapters/kube/fence-floor.ts';
import type { KubeRequest } from '../../src/adapters/kube/kube-client.ts';
import { AUTHORITY_KEY, KubeLeadership } from '../../src/adapters/kube/kube-leadership.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { ControllerState, StateDocument } from '../../src/ports/controller-state.ts';
import type { Term } from '../../src/ports/leadership.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { proxiedNamespace, type ProxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { describeLeadership } from './leadership.ts';

const never = new AbortController().signal;

interface Lease {
  readonly metadata: { readonly creationTimestamp: string };
  readonly spec: { readonly renewTime?: string; readonly holderIdentity?: string; readonly leaseTransitions?: number };
}

/** A lease so long that nobody on a busy machine loses it by chance. */
const KEPT_MS = 10_000;
const clock = new SystemClock();
const logger = new RecordingLogger();

interface Meddling {
  readonly times?: { readonly leaseMs?: number };
  /** Called before each request. */
  readonly before?: (request: KubeRequest) => Promise<void>;
  /** Called when a document was read, before that is told. */
  readonly afterGet?: (key: string) => Promise<void>;
}

function leadershipOf(
  { connect, namespace }: ProxiedNamespace,
  holder: string,
  { times = { leaseMs: KEPT_MS }, before, afterGet }: Meddling = {},
): { leadership: KubeLeadership; crash(): Promise<void> } {
  const client = connect();
  const dead = new AbortController();
  const mortal = new Proxy(client, {
    get: (target, name) =>
      name === 'call'
        ? async (...args: Parameters<typeof client.call>) => {
            dead.signal.throwIfAborted();
            await before?.(args[0]);
            return target.call(...args);
          }
        : Reflect.get(target, name, target),
  });
  class MeddledState extends KubeControllerState {
    override async get(key: string, signal: AbortSignal): Promise<StateDocument | undefined> {
      const found = await super.get(key, signal);
      await afterGet?.(key);
      return found;
    }
  }
  const leadership = new KubeLeadership({
    client: mortal,
    namespace,
    state: new MeddledState({ client: mortal, namespace }),
    clock,
    logger,
    holder,
    ...times,
  });
  return { leadership, crash: async () => dead.abort(new Error('it is dead')) };
}

await withBackend('kubernetes', (directory) => {
  describeLeadership('a Lease', {
    create: async () => {
      const space = await proxiedNamespace(directory);
      let processes = 0;
      return {
        open: async (holder = `process-${(processes += 1)}`) => {
          return { ...leadershipOf(space, holder), holder };
        },
        break: async () => space.network.refuse(),
        heal: async () => space.network.heal(),
        dispose: space.dispose,
      };
    },
  });

  describe('a Lease that somebody meddles with', () => {
    let space: ProxiedNamespace;
    let term: Term | undefined;

    beforeEach(async () => {
      logger.lines.length = 0;
      space = await proxiedNamespace(directory);
    });
    afterEach(async () => {
      await term?.release();
      term = undefined;
      await space.dispose();
    });

    const lease = (): string => `/apis/coordination.k8s.io/v1/namespaces/${space.namespace}/leases/plugset`;
    const read = (): Promise<Lease> => space.cluster.call('GET', lease());
    const merge = (body: object): Promise<Lease> =>
      space.cluster.call('PATCH', lease(), { contentType: 'application/merge-patch+json', body });
    const remembered = (): ControllerState =>
      new KubeControllerState({ client: space.connect(), namespace: space.namespace });
    const remember = async (key: string, value: unknown): Promise<void> => {
      const state = remembered();
      const known = await state.get(key, never);
      expect(await state.compareAndSwap(key, known?.version, value, never)).toBeDefined();
    };
    /** Leads once more, as a process that was started again. */
    const leadAnew = async (): Promise<Term> => {
      await term?.release();
      return (term = await leadershipOf(space, 'another').leadership.acquire(never));
    };

    it('ends the turn when it is deleted, makes none anew, and begins a new epoch with the next', async () => {
      const { leadership } = leadershipOf(space, 'one');
      term = await leadership.acquire(never);
      const { fence, signal } = term;
      await space.cluster.call('DELETE', lease());
      if (!signal.aborted) await once(signal, 'abort');
      await expect(read()).rejects.toMatchObject({ status: 404 });
      // At once: a Lease tells its age in seconds, and these two may be of one.
      term = await leadership.acquire(never);
      expect(term.fence.authority).toBe(fence.authority);
      expect(term.fence.epoch).toBeGreaterThan(fence.epoch);
    });

    it('begins a newer epoch also where the clock that stamps it was set back, and keeps that for all its life', async () => {
      const ahead = clock.now() + 24 * 3600_000;
      await remember(FENCE_KEY, { epoch: ahead, n: 5 });
      const { fence } = await leadAnew();
      expect(fence.epoch).toBeGreaterThan(ahead);
      const next = await leadAnew();
      expect(next.fence.epoch).toBe(fence.epoch);
      expect(next.fence.n).toBeGreaterThan(fence.n);
    });

    it('comes after the newest turn also where its own numbers are older, or the document of the newest is lost', async () => {
      const { fence } = await leadAnew();
      const numbers = { epoch: fence.epoch, n: fence.n + 1000 };
      await remember(FENCE_KEY, numbers);
      const second = await leadAnew();
      expect(second.fence).toEqual({ ...fence, n: numbers.n + 1 });
      expect(await remembered().get(FENCE_KEY, never)).toMatchObject({
        value: { epoch: fence.epoch, n: numbers.n + 1 },
      });

      await remember(FENCE_KEY, { epoch: fence.epoch + 500, n: 1 });
      const third = await leadAnew();
      expect(third.fence.epoch).toBe(fence.epoch + 501);

      await remove(FENCE_KEY);
      const fourth = await leadAnew();
      expect(fourth.fence.epoch).toBe(third.fence.epoch);
      expect(fourth.fence.n).toBeGreaterThan(third.fence.n);
    });

    it('is not led by who finds that a newer turn has begun meanwhile', async () => {
      const ahead = clock.now() + 3600_000;
      let looks = 0;
      const afterGet = async (key: string): Promise<void> => {
        if (key === FENCE_KEY && ++looks === 1) await remember(FENCE_KEY, { epoch: ahead, n: 1 });
      };
      const { leadership } = leadershipOf(space, 'late', { afterGet });
      term = await leadership.acquire(never);
      expect(term.fence.epoch).toBeGreaterThan(ahead);
    });

    it('knows whom fences name, also without the document that says so', async () => {
      const { fence } = await leadAnew();
      await term?.release();
      await remove(AUTHORITY_KEY);
      expect(await leadershipOf(space, 'somebody').leadership.authority(never)).toBe(fence.authority);
      expect((await leadAnew()).fence.authority).toBe(fence.authority);
      expect(await remembered().get(AUTHORITY_KEY, never)).toMatchObject({ value: fence.authority });
    });

    it('goes on where others put something on it, and keeps that', async () => {
      const { signal } = await leadAnew();
      const mark = { metadata: { labels: { seen: 'yes' }, annotations: { 'example.com/note': 'ours' } } };
      const before = await merge(mark);
      const renewed = await eventually(async () => {
        const now = await read();
        expect(now.spec.renewTime).not.toBe(before.spec.renewTime);
        return now;
      });
      expect(renewed).toMatchObject(mark);
      expect(signal.aborted).toBe(false);
      await leadAnew();
      expect(await read()).toMatchObject(mark);
    });

    it('is asked for again only so often where somebody else is faster each time, and is not lost by that', async () => {
      let puts = 0;
      const before = async ({ method }: KubeRequest): Promise<void> => {
        if (method === 'PUT') await merge({ metadata: { labels: { round: String((puts += 1)) } } });
      };
      term = await leadershipOf(space, 'one', { before }).leadership.acquire(never);
      const failed = await eventually(() => {
        const line = logger.lines.find(({ message }) => message.startsWith('the lease was not renewed'));
        if (line === undefined) throw new Error('it is still renewed');
        return line;
      });
      expect(failed.fields['error']).toMatchObject({ message: expect.stringContaining('by somebody else') });
      expect(term.signal.aborted).toBe(false);
    });

    it('runs out though somebody labels it all the time', async () => {
      const one = leadershipOf(space, 'one');
      await one.leadership.acquire(never);
      await one.crash();
      const led = new AbortController();
      let round = 0;
      const meddling = (async () => {
        while (!led.signal.aborted) {
          await merge({ metadata: { labels: { round: String((round += 1)) } } });
          await clock.sleep(100, led.signal).catch(() => undefined);
        }
      })();
      term = await leadershipOf(space, 'two').leadership.acquire(never);
      led.abort();
      await meddling;
      expect(term.signal.aborted).toBe(false);
    });

    it('tells who leads, whatever somebody has taken out of it', async () => {
      const { leadership } = leadershipOf(space, 'one');
      await leadAnew();
      await term?.release();
      await merge({ spec: { renewTime: null } });
      expect(await leadership.lastHolder(never)).toMatchObject({ name: expect.stringMatching(/^another-/) });
      await merge({ spec: { acquireTime: null } });
      const { metadata } = await read();
      const since = new Date(metadata.creationTimestamp).toISOString();
      expect(await leadership.lastHolder(never)).toMatchObject({ since, until: since, isLeading: false });
    });

    it('is what the fence is made of: its creation is the epoch, its transitions are the number', async () => {
      const { fence } = await leadAnew();
      const { metadata, spec } = await read();
      expect(fence).toMatchObject({ epoch: Date.parse(metadata.creationTimestamp), n: spec.leaseTransitions });
    });

    it('lasts 35 seconds unless told otherwise', async () => {
      term = await leadershipOf(space, 'one', { times: {} }).leadership.acquire(never);
      expect(await read()).toMatchObject({ spec: { leaseDurationSeconds: 35 } });
    });

    it('is taken also where somebody has made it by hand, with nothing in it', async () => {
      const body = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: 'plugset' } };
      await space.cluster.call('POST', lease().replace(/\/plugset$/, ''), { body });
      expect(await leadershipOf(space, 'one').leadership.lastHolder(never)).toBeUndefined();
      expect((await leadAnew()).signal.aborted).toBe(false);
    });

    it('hands out no turn again after a restore from a backup, however often it failed before', async () => {
      const { leadership } = leadershipOf(space, 'one');
      term = await leadership.acquire(never);
      const { fence } = term;
      expect(fence.n).toBeGreaterThanOrEqual(Math.floor(clock.now() / 2000) - 60);
      await term.release();
      const old = await read();
      await remove(FENCE_KEY);
      await space.cluster.call('PUT', lease(), { body: { ...old, spec: { ...old.spec, leaseTransitions: 3 } } });
      term = await leadership.acquire(never);
      expect(term.fence.epoch).toBe(fence.epoch);
      expect(term.fence.n).toBeGreaterThanOrEqual(fence.n);
    });

    async function remove(key: string): Promise<void> {
      const state = remembered();
      const known = await state.get(key, never);
      expect(await state.remove(key, known?.version ?? '', never)).toBe(true);
    }
  });
});
