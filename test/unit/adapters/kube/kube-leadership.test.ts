import { expect, test } from 'vitest';

import type { KubeClient, KubeRequest } from '../../../../src/adapters/kube/kube-client.ts';
import { AUTHORITY_KEY, KubeLeadership } from '../../../../src/adapters/kube/kube-leadership.ts';
import { KubeRefusal } from '../../../../src/adapters/kube/kube-refusal.ts';
import { transient, waiting } from '../../../../src/domain/errors.ts';
import { isLaterTurn } from '../../../../src/domain/fence.ts';
import { whenAborted } from '../../../../src/ports/abort.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { MemoryControllerState, MemoryStateBackend } from '../../../support/memory-state.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const never = new AbortController().signal;

interface StoredLease {
  readonly metadata: object;
  readonly spec: { readonly holderIdentity?: string; readonly leaseTransitions?: number };
}

/** One Lease, kept as an API server keeps it as long as only one asks; `fail` is asked before each request. */
class LeaseServer {
  fail: (request: KubeRequest, signal: AbortSignal) => Promise<void> = async () => undefined;
  readonly askedAtMs: number[] = [];
  readonly #clock: FakeClock;
  #version = 0;
  #lease: StoredLease | undefined;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  get holder(): string | undefined {
    return this.#lease?.spec.holderIdentity;
  }

  /** As `kubectl edit` does. */
  edit(spec: Pick<StoredLease['spec'], 'leaseTransitions'>): void {
    if (this.#lease !== undefined) this.#lease = { ...this.#lease, spec: { ...this.#lease.spec, ...spec } };
  }

  async call<T>(request: KubeRequest, signal: AbortSignal): Promise<T> {
    this.askedAtMs.push(this.#clock.monotonic());
    await this.fail(request, signal);
    const { method, path, body } = request;
    if (method !== 'GET') {
      const { metadata, spec } = body as StoredLease;
      if ((spec.leaseTransitions ?? 0) >= 2 ** 31)
        throw new KubeRefusal(`${method} ${path}`, 400, { reason: 'BadRequest' });
      const creationTimestamp = new Date(this.#clock.now()).toISOString();
      const stamps = { uid: 'one', creationTimestamp, ...metadata, resourceVersion: String((this.#version += 1)) };
      this.#lease = { metadata: stamps, spec };
    }
    if (this.#lease === undefined) throw new KubeRefusal(`${method} ${path}`, 404, { reason: 'NotFound' });
    return this.#lease as T;
  }
}

function begin() {
  const clock = new FakeClock();
  clock.setRandom(() => 1);
  const server = new LeaseServer(clock);
  const client: Pick<KubeClient, 'call'> = server;
  const logger = new RecordingLogger();
  const backend = new MemoryStateBackend();
  const state = new MemoryControllerState(backend);
  const leadership = new KubeLeadership({ client, namespace: 'here', state, clock, logger });
  return { clock, server, backend, leadership };
}

test('a turn is renewed every 5 s, and over 30 s after the last time that went well', async () => {
  const { clock, server, leadership } = begin();
  const { signal } = await leadership.acquire(never);
  server.askedAtMs.length = 0;
  await clock.advance(15_000);
  expect(server.askedAtMs).toEqual([5_000, 10_000, 15_000]);
  server.fail = async () => {
    throw transient('Unreachable', 'nobody is there');
  };
  await clock.advance(29_999);
  expect(signal.aborted).toBe(false);
  await clock.advance(1);
  expect(signal.aborted).toBe(true);
});

test('a server that says nothing is asked three times before the turn is over', async () => {
  const { clock, server, leadership } = begin();
  const { signal } = await leadership.acquire(never);
  server.askedAtMs.length = 0;
  server.fail = async (_, until) => {
    await whenAborted(until);
    throw until.reason;
  };
  await clock.advance(30_000);
  expect(signal.aborted).toBe(true);
  expect(server.askedAtMs).toEqual([5_000, 16_000, 27_000]);
});

test('a server that is busy is asked again when it says, whether to lead or to go on', async () => {
  const { clock, server, leadership } = begin();
  server.fail = async () => {
    server.fail = async () => undefined;
    throw waiting('Throttled', 'too many requests', 8_000);
  };
  const won = leadership.acquire(never);
  await clock.advance(10_000);
  const term = await won;
  expect(server.askedAtMs.slice(0, 2)).toEqual([0, 8_000]);

  server.askedAtMs.length = 0;
  server.fail = async () => {
    server.fail = async () => undefined;
    throw waiting('Throttled', 'too many requests', 2_000);
  };
  await clock.advance(10_000);
  expect(server.askedAtMs.slice(0, 2)).toEqual([13_000, 15_000]);
  expect(term.signal.aborted).toBe(false);
});

test('who has taken the Lease and cannot say so where all look gives it back', async () => {
  const { clock, server, backend, leadership } = begin();
  const stop = new AbortController();
  const troubles: (string | undefined)[] = [];
  server.fail = async ({ method }) => {
    backend.isBroken = method !== 'GET';
  };
  const won = leadership.acquire(stop.signal, undefined, (why) => troubles.push(why));
  await clock.advance(0);
  expect(troubles).toEqual(['the test has broken this state']);
  expect(server.holder).toBe('');

  server.fail = async () => {
    backend.isBroken = false;
  };
  await clock.advance(5_000);
  expect((await won).signal.aborted).toBe(false);
  expect(server.holder).not.toBe('');
});

test.each([17, 'Not A Name', { a: 1 }])('nobody leads under the name %j', async (value) => {
  const { backend, server, leadership } = begin();
  backend.documents.set(AUTHORITY_KEY, { text: JSON.stringify(value), version: '1' });
  const stop = new AbortController();
  const why = await new Promise<string | undefined>((resolve) => {
    void leadership.acquire(stop.signal, undefined, resolve).catch(() => undefined);
  });
  stop.abort(new Error('enough'));
  expect(why).toContain(AUTHORITY_KEY);
  expect(server.holder).toBeUndefined();
});

test('a count that somebody has set to its end goes on in a new epoch', async () => {
  const { server, leadership } = begin();
  const first = await leadership.acquire(never);
  await first.release();
  server.edit({ leaseTransitions: 2 ** 31 - 1 });

  const second = await leadership.acquire(never);
  expect(isLaterTurn(second.fence, first.fence)).toBe(true);
  expect(second.fence.epoch).toBe(first.fence.epoch + 1);
  await second.release();
  const third = await leadership.acquire(never);
  expect(third.fence).toMatchObject({ epoch: second.fence.epoch, n: second.fence.n + 1 });
});
