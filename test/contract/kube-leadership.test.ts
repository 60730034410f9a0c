import { once } from 'node:events';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KubeControllerState } from '../../src/adapters/kube/kube-controller-state.ts';
import { KubeLeadership } from '../../src/adapters/kube/kube-leadership.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import type { Term } from '../../src/ports/leadership.ts';
import { withBackend } from '../support/backend.ts';
import { proxiedNamespace, type ProxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { describeLeadership } from './leadership.ts';

const never = new AbortController().signal;

function leadershipOf(
  { connect, namespace }: ProxiedNamespace,
  holder: string,
): { leadership: KubeLeadership; crash(): Promise<void> } {
  const client = connect();
  const dead = new AbortController();
  const mortal = new Proxy(client, {
    get: (target, name) =>
      name === 'call'
        ? async (...args: Parameters<typeof client.call>) => {
            dead.signal.throwIfAborted();
            return target.call(...args);
          }
        : Reflect.get(target, name, target),
  });
  const leadership = new KubeLeadership({
    client: mortal,
    namespace,
    state: new KubeControllerState({ client: mortal, namespace }),
    clock: new SystemClock(),
    logger: new RecordingLogger(),
    holder,
    leaseMs: 2000,
  });
  return { leadership, crash: async () => dead.abort(new Error('it is dead')) };
}

await withBackend('kubernetes', (directory) => {
  describeLeadership('a Lease', {
    create: async () => {
      const space = await proxiedNamespace(directory);
      let processes = 0;
      return {
        open: async () => {
          const holder = `process-${(processes += 1)}`;
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
    const lease = (): string => `/apis/coordination.k8s.io/v1/namespaces/${space.namespace}/leases/plugset`;

    beforeEach(async () => {
      space = await proxiedNamespace(directory);
    });
    afterEach(async () => {
      await term?.release();
      await space.dispose();
    });

    it('ends the turn when it is deleted, and begins a new epoch with the next', async () => {
      const { leadership } = leadershipOf(space, 'one');
      term = await leadership.acquire(never);
      const { fence, signal } = term;
      // A Lease tells its age in seconds.
      await new Promise((resolve) => void setTimeout(resolve, 1100));
      await space.cluster.call('DELETE', lease());
      if (!signal.aborted) await once(signal, 'abort');
      term = await leadership.acquire(never);
      expect(term.fence.authority).toBe(fence.authority);
      expect(term.fence.epoch).toBeGreaterThan(fence.epoch);
    });

    it('goes on where only a label of it was changed', async () => {
      term = await leadershipOf(space, 'one').leadership.acquire(never);
      const { signal } = term;
      const before = await space.cluster.call<{ spec: { renewTime: string } }>('PATCH', lease(), {
        contentType: 'application/merge-patch+json',
        body: { metadata: { labels: { seen: 'yes' } } },
      });
      for (;;) {
        const now = await space.cluster.call<typeof before>('GET', lease());
        if (now.spec.renewTime !== before.spec.renewTime) break;
      }
      expect(signal.aborted).toBe(false);
    });

    it('hands out no turn again after a restore from a backup', async () => {
      const { leadership } = leadershipOf(space, 'one');
      term = await leadership.acquire(never);
      const { fence } = term;
      await term.release();
      const old = await space.cluster.call<{ spec: object }>('GET', lease());
      await space.cluster.call('PUT', lease(), { body: { ...old, spec: { ...old.spec, leaseTransitions: 3 } } });
      term = await leadership.acquire(never);
      expect(term.fence.epoch).toBe(fence.epoch);
      expect(term.fence.n).toBeGreaterThanOrEqual(fence.n);
    });
  });
});
