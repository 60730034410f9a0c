import { expect, test } from 'vitest';

import type { KubeClient, KubeRequest } from '../../../../src/adapters/kube/kube-client.ts';
import { KubeLeadership } from '../../../../src/adapters/kube/kube-leadership.ts';
import { KubeRefusal } from '../../../../src/adapters/kube/kube-refusal.ts';
import { transient, waiting } from '../../../../src/domain/errors.ts';
import { whenAborted } from '../../../../src/ports/abort.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { MemoryControllerState } from '../../../support/memory-state.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';

const never = new AbortController().signal;

/** One Lease, kept as an API server keeps it as long as only one asks; `fail` is asked before each request. */
class LeaseServer {
  fail: (request: KubeRequest, signal: AbortSignal) => Promise<void> = async () => undefined;
  readonly askedAtMs: number[] = [];
  readonly #clock: FakeClock;
  #version = 0;
  #lease: object | undefined;

  constructor(clock: FakeClock) {
    this.#clock = clock;
  }

  async call<T>(request: KubeRequest, signal: AbortSignal): Promise<T> {
    this.askedAtMs.push(this.#clock.monotonic());
    await this.fail(request, signal);
    const { method, path, body } = request;
    if (method !== 'GET') {
      const { metadata, ...rest } = body as { readonly metadata: object };
      const creationTimestamp = new Date(this.#clock.now()).toISOString();
      const stamps = { uid: 'one', creationTimestamp, ...metadata, resourceVersion: String((this.#version += 1)) };
      this.#lease = { ...rest, metadata: stamps };
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
  const state = new MemoryControllerState();
  const leadership = new KubeLeadership({ client, namespace: 'here', state, clock, logger });
  return { clock, server, leadership };
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
