import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { EventNotifier } from '../../src/adapters/kube/event-notifier.ts';
import type { KubeEvent } from '../../src/adapters/kube/kube-event.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { REASONS, type Reason } from '../../src/domain/reason.ts';
import { STANDINGS, type Standing, type Transition } from '../../src/domain/transition.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { proxiedNamespace, type ProxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { installWorkspaceCrd, workspacesIn } from '../support/kube/workspace-crd.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics, type RecordingMetrics } from '../support/recording-metrics.ts';

await withBackend('kubernetes', (directory) => {
  describe('events on a real API server', () => {
    let world: ProxiedNamespace;
    let metrics: RecordingMetrics;
    let logger: RecordingLogger;
    let notifier: EventNotifier;
    let uid: string;
    // As long as a name of an object can be for us.
    const long = `w${'-x'.repeat(63)}y`;

    beforeAll(async () => {
      world = await proxiedNamespace(directory);
      await installWorkspaceCrd(world.cluster);
      for (const name of ['alice', long]) {
        const body = {
          apiVersion: API_VERSION,
          kind: 'Workspace',
          metadata: { name },
          spec: { runtime: 'claude-code', target: { external: {} }, plugins: [] },
        };
        const made = await world.cluster.call<{ metadata: { uid: string } }>('POST', workspacesIn(world.namespace), {
          body,
        });
        if (name === 'alice') ({ uid } = made.metadata);
      }
      metrics = recordingMetrics();
      logger = new RecordingLogger();
      notifier = new EventNotifier({
        client: world.connect(),
        uidOf: (key) => (key.endsWith('/alice') ? uid : undefined),
        isWanted: () => true,
        instance: `${'plugset-'.repeat(30)}0`,
        clock: new SystemClock(),
        logger,
        metrics,
      });
    });
    afterAll(async () => {
      await notifier.close();
      await world.dispose();
    });

    const transition = (standing: Standing, reason: Reason, message: string, name = 'alice'): Transition => ({
      workspace: workspaceKey(world.namespace, name),
      from: undefined,
      to: { standing, reason },
      message,
      since: '2026-01-01T00:00:00.000Z',
      summary: '0/1',
      plugins: [],
    });
    const outcomes = (): readonly unknown[] => metrics.argsOf('eventTold').flat();
    const told = async (count: number): Promise<void> => eventually(() => expect(outcomes().length).toBe(count));
    const events = async (): Promise<readonly KubeEvent[]> => {
      const path = `/apis/events.k8s.io/v1/namespaces/${world.namespace}/events`;
      return (await world.cluster.call<{ readonly items: readonly KubeEvent[] }>('GET', path)).items;
    };

    it('are shown by kubectl describe and kubectl events, counted where they happen again', async () => {
      const before = outcomes().length;
      notifier.notify(transition('NotReady', 'Unreachable', 'the engine does not answer'));
      await told(before + 1);
      notifier.notify(transition('Ready', 'Succeeded', '1 of 1 plugins as declared'));
      await told(before + 2);
      notifier.notify(transition('NotReady', 'Unreachable', 'the engine does not answer'));
      await told(before + 3);
      const mine = (await events()).filter(({ note }) => note === 'the engine does not answer');
      expect(mine).toMatchObject([{ series: { count: 2 }, type: 'Warning', regarding: { uid } }]);
      const described = await world.cluster.kubectl(['describe', 'pws/alice', '-n', world.namespace]);
      expect(described).toMatch(/Warning\s+Unreachable\s+.*\(x2 over .*the engine does not answer/);
      expect(described).toMatch(/Normal\s+Succeeded\s+.*plugset\.dev\/controller.*1 of 1 plugins as declared/);
      const listed = await world.cluster.kubectl(['events', '-n', world.namespace, '--for', 'workspace/alice']);
      expect(listed).toMatch(/\(x2 over .*Warning\s+Unreachable\s+Workspace\/alice\s+the engine does not answer/);
    });

    it('are taken for every reason and standing, the longest of everything', async () => {
      const before = outcomes().length;
      const reasons = Object.keys(REASONS) as Reason[];
      for (const [i, reason] of reasons.entries())
        notifier.notify(transition(STANDINGS[i % STANDINGS.length] ?? 'Ready', reason, '½'.repeat(2000), long));
      await told(before + reasons.length);
      expect(new Set(outcomes())).toEqual(new Set(['sent']));
      expect(logger.at('warn')).toEqual([]);
    });

    it('outlive what they are about', async () => {
      await world.cluster.kubectl(['delete', 'pws/alice', '-n', world.namespace]);
      const before = outcomes().length;
      notifier.notify(transition('Deleted', 'DeletedUnclean', 'left behind in container ws-alice: a, b'));
      await told(before + 1);
      const listed = await world.cluster.kubectl(['events', '-n', world.namespace, '--for', 'workspace/alice']);
      expect(listed).toMatch(/Warning\s+DeletedUnclean\s+Workspace\/alice\s+left behind in container ws-alice: a, b/);
    });

    it('wait for an API server that is away, and are told once', async () => {
      const before = outcomes().length;
      world.network.refuse();
      notifier.notify(transition('Stalled', 'InvalidSpec', 'told through an outage', long));
      await eventually(() => expect(logger.at('warn').length).toBe(1));
      world.network.heal();
      await told(before + 1);
      expect((await events()).filter(({ note }) => note === 'told through an outage')).toHaveLength(1);
    });
  });
});
