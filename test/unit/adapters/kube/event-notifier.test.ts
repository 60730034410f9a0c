import { beforeEach, describe, expect, it } from 'vitest';

import { EventNotifier } from '../../../../src/adapters/kube/event-notifier.ts';
import type { KubeRequest } from '../../../../src/adapters/kube/kube-client.ts';
import type { KubeEvent } from '../../../../src/adapters/kube/kube-event.ts';
import { KubeRefusal } from '../../../../src/adapters/kube/kube-refusal.ts';
import { transient, unknownOutcome } from '../../../../src/domain/errors.ts';
import { workspaceKey } from '../../../../src/domain/name.ts';
import type { Reason } from '../../../../src/domain/reason.ts';
import type { Standing, Transition } from '../../../../src/domain/transition.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { RecordingLogger } from '../../../support/recording-logger.ts';
import { recordingMetrics, type RecordingMetrics } from '../../../support/recording-metrics.ts';

const MINUTE = 60_000;
const AT = Date.UTC(2026, 0, 1);

function transition(standing: Standing, reason: Reason, name = 'alice', message = `it is ${standing}`): Transition {
  const since = new Date(AT).toISOString();
  const workspace = workspaceKey('team-a', name);
  return { workspace, from: undefined, to: { standing, reason }, message, since, summary: '0/1', plugins: [] };
}

const DOWN = transition('NotReady', 'Unreachable');
const UP = transition('Ready', 'Succeeded');

describe('events about workspaces', () => {
  let clock: FakeClock;
  let metrics: RecordingMetrics;
  let logger: RecordingLogger;
  let asked: KubeRequest[];
  let answer: (request: KubeRequest) => Promise<unknown>;
  let isWanted: boolean;
  let notifier: EventNotifier;

  beforeEach(() => {
    clock = new FakeClock({ startMs: AT });
    metrics = recordingMetrics();
    logger = new RecordingLogger();
    asked = [];
    answer = async () => ({});
    isWanted = true;
    notifier = new EventNotifier({
      client: {
        call: async <T>(request: KubeRequest): Promise<T> => {
          asked.push(request);
          return (await answer(request)) as T;
        },
      },
      uidOf: (key) => (key === 'team-a/alice' ? 'uid-1' : undefined),
      isWanted: () => isWanted,
      instance: 'plugset-0',
      clock,
      logger,
      metrics,
    });
  });

  const made = (): readonly KubeEvent[] =>
    asked.filter(({ method }) => method === 'POST').map(({ body }) => body as KubeEvent);
  const outcomes = (): readonly unknown[] => metrics.argsOf('eventTold').flat();

  it('names the object, who tells, and what happened', async () => {
    notifier.notify(DOWN);
    await clock.advance(0);
    expect(asked).toMatchObject([{ method: 'POST', path: '/apis/events.k8s.io/v1/namespaces/team-a/events' }]);
    expect(made()).toEqual([
      {
        apiVersion: 'events.k8s.io/v1',
        kind: 'Event',
        metadata: { namespace: 'team-a', name: expect.stringMatching(/^alice\.[0-9a-f]{16}$/) },
        eventTime: '2026-01-01T00:00:00.000000Z',
        reportingController: 'plugset.dev/controller',
        reportingInstance: 'plugset-0',
        action: 'Reconcile',
        reason: 'Unreachable',
        type: 'Warning',
        regarding: {
          apiVersion: 'plugset.dev/v1alpha1',
          kind: 'Workspace',
          namespace: 'team-a',
          name: 'alice',
          uid: 'uid-1',
        },
        note: 'it is NotReady',
      },
    ]);
    expect(outcomes()).toEqual(['sent']);
  });

  it.each([
    ['Ready', 'Succeeded', 'Normal'],
    ['Drifted', 'Drifted', 'Warning'],
    ['NotReady', 'InstallFailed', 'Warning'],
    ['NotReady', 'Deleting', 'Normal'],
    ['Held', 'AwaitingApproval', 'Normal'],
    ['Held', 'PruneHeld', 'Warning'],
    ['Stalled', 'InvalidSpec', 'Warning'],
    ['Idle', 'Suspended', 'Normal'],
    ['Deleted', 'Succeeded', 'Normal'],
    ['Deleted', 'DeletedUnclean', 'Warning'],
  ] as const)('%s for %s is %s', async (standing, reason, type) => {
    notifier.notify(transition(standing, reason));
    await clock.advance(0);
    expect(made()).toMatchObject([{ type, reason, action: standing === 'Deleted' ? 'Delete' : 'Reconcile' }]);
  });

  it('takes no more bytes than the API server does, and no half characters', async () => {
    for (const text of ['x'.repeat(2000), '½'.repeat(1024), '🐢'.repeat(400), 'x'.repeat(1024)]) {
      notifier.notify(transition('NotReady', 'InstallFailed', 'alice', text));
    }
    await clock.advance(MINUTE);
    expect(made()).toHaveLength(4);
    for (const { note } of made()) {
      expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1024);
      expect(Buffer.byteLength(note)).toBeGreaterThan(1018);
      expect(Buffer.from(note).toString()).toBe(note);
    }
    expect(made()[3]?.note).toBe('x'.repeat(1024));
  });

  it('counts what happens again, in the event that is there', async () => {
    for (let again = 0; again < 3; again++) {
      for (const one of [DOWN, UP]) {
        notifier.notify(one);
        await clock.advance(MINUTE);
      }
    }
    expect(made().map(({ reason }) => reason)).toEqual(['Unreachable', 'Succeeded']);
    const name = made()[0]?.metadata.name;
    expect(asked.filter(({ path }) => path.endsWith(`/${name}`))).toMatchObject([
      { method: 'PATCH', contentType: 'application/merge-patch+json', body: { series: { count: 2 } } },
      { body: { series: { count: 3, lastObservedTime: '2026-01-01T00:04:00.000000Z' } } },
    ]);
  });

  it('tells anew what happened long ago, what is forgotten there, and what is told in other words', async () => {
    notifier.notify(DOWN);
    await clock.advance(7 * MINUTE);
    notifier.notify(DOWN);
    await clock.advance(MINUTE);
    answer = async ({ method }) => (method === 'PATCH' ? Promise.reject(refusal(404, 'NotFound')) : {});
    notifier.notify(DOWN);
    await clock.advance(MINUTE);
    notifier.notify({ ...DOWN, message: 'for another reason' });
    await clock.advance(MINUTE);
    expect(new Set(made().map(({ metadata }) => metadata.name)).size).toBe(4);
    expect(outcomes()).toEqual(['sent', 'sent', 'sent', 'sent']);
  });

  it('keeps the pace, tells what happened often meanwhile once, and never waits', async () => {
    for (let i = 0; i < 3; i++)
      for (const name of ['alice', 'bob', 'carol']) notifier.notify(transition('Ready', 'Succeeded', name));
    await clock.advance(50);
    expect(asked).toHaveLength(1);
    await clock.advance(100);
    expect(asked).toHaveLength(2);
    await clock.advance(MINUTE);
    expect(asked.map(({ method }) => method)).toEqual(['POST', 'POST', 'POST', 'PATCH']);
    expect(made()[1]).toMatchObject({ series: { count: 3 } });
    expect(asked[3]).toMatchObject({ body: { series: { count: 3 } } });
  });

  it('keeps warnings where too much waits', async () => {
    answer = () => Promise.reject(transient('Unreachable', 'down'));
    for (let i = 0; i < 1500; i++) {
      const isBad = i % 3 === 0;
      notifier.notify(transition(isBad ? 'Stalled' : 'Ready', isBad ? 'InvalidSpec' : 'Succeeded', `w-${i}`));
    }
    expect(outcomes().filter((outcome) => outcome === 'dropped')).toHaveLength(499);
    answer = async () => ({});
    await clock.advance(5 * MINUTE);
    expect(
      new Set(
        made()
          .filter(({ type }) => type === 'Warning')
          .map(({ metadata }) => metadata.name),
      ).size,
    ).toBe(500);
  });

  it('tries again what could not be delivered, as one event, and says so once', async () => {
    const failures = [transient('Unreachable', 'down'), unknownOutcome('cut'), refusal(429, 'TooManyRequests')];
    answer = async () => {
      const failure = failures.shift() ?? refusal(409, 'AlreadyExists');
      throw failure;
    };
    notifier.notify(DOWN);
    await clock.advance(MINUTE);
    expect(new Set(made().map(({ metadata }) => metadata.name)).size).toBe(1);
    expect(asked).toHaveLength(4);
    expect(outcomes()).toEqual(['sent']);
    expect(logger.at('warn')).toHaveLength(1);
  });

  it('gives up what is refused, and after ten minutes what nobody takes', async () => {
    answer = () => Promise.reject(refusal(403, 'Forbidden'));
    notifier.notify(DOWN);
    await clock.advance(0);
    expect(outcomes()).toEqual(['refused']);
    answer = () => Promise.reject(transient('Unreachable', 'down'));
    notifier.notify(UP);
    await clock.advance(11 * MINUTE);
    expect(outcomes()).toEqual(['refused', 'dropped']);
    expect(asked.length).toBeLessThan(40);
  });

  it('tells nothing while nobody wants it', async () => {
    isWanted = false;
    notifier.notify(DOWN);
    await clock.advance(MINUTE);
    expect(asked).toEqual([]);
  });

  it('tells at its end what waits, and nothing after it', async () => {
    for (const name of ['alice', 'bob', 'carol']) notifier.notify(transition('Ready', 'Succeeded', name));
    await notifier.close();
    notifier.notify(DOWN);
    await notifier.close();
    expect(outcomes()).toEqual(['sent', 'sent', 'sent']);
  });

  it('ends in time though nobody answers', async () => {
    answer = () => new Promise((_, reject) => clock.setTimer(8_000, () => reject(transient('Unreachable', 'down'))));
    for (const name of ['alice', 'bob']) notifier.notify(transition('Ready', 'Succeeded', name));
    const closed = notifier.close();
    await clock.advance(10_000);
    await closed;
    expect(outcomes()).toEqual(['dropped', 'dropped']);
  });
});

function refusal(status: number, reason: string): KubeRefusal {
  return new KubeRefusal('POST', status, { reason, message: 'says the test' });
}
