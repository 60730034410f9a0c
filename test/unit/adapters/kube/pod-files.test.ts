import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KubeAccess } from '../../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { PodWorkspaceTarget } from '../../../../src/adapters/kube/pod-workspace-target.ts';
import { podFrom } from '../../../../src/adapters/kube/pod.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

describe('files in a pod', () => {
  let client: KubeClient;
  beforeEach(() => {
    const clock = new FakeClock();
    const access = new KubeAccess({ open: () => Promise.reject(new Error('nobody is asked')), clock });
    client = new KubeClient({ access, clock });
  });
  afterEach(() => client.close());

  const keepsFiles = (volume: object, configDir: string, inner?: object): boolean => {
    const pod = podFrom({
      metadata: { name: 'alice', namespace: 'team-a', uid: '1', resourceVersion: '1' },
      spec: {
        containers: [
          {
            name: 'main',
            volumeMounts: [
              { name: 'data', mountPath: '/configs' },
              { name: 'inner', mountPath: '/configs/agent' },
            ].slice(0, inner === undefined ? 1 : 2),
          },
        ],
        volumes: [
          { name: 'data', ...volume },
          { name: 'inner', ...inner },
        ],
      },
      status: {
        phase: 'Running',
        containerStatuses: [{ name: 'main', containerID: 'containerd://1', state: { running: {} } }],
      },
    } as Parameters<typeof podFrom>[0]);
    const [container] = pod.containers;
    if (container?.id === undefined) throw new Error('it runs');
    const target = new PodWorkspaceTarget(
      { pod, container: { ...container, id: container.id } },
      {
        client,
        addresses: () => [],
        requireSame: () => Promise.resolve(),
        isSame: () => true,
      },
    );
    return target.keepsFiles(configDir);
  };

  it.each([
    ['a claim', { persistentVolumeClaim: { claimName: 'x' } }, '/configs/agent', true],
    ['its node', { hostPath: { path: '/srv' } }, '/configs', true],
    ['a kind that nobody knows here', { someday: {} }, '/configs', true],
    ['a claim, beside the config directory', { persistentVolumeClaim: { claimName: 'x' } }, '/configs2', false],
    ['the pod', { emptyDir: {} }, '/configs/agent', false],
    ['a claim of the pod', { ephemeral: { volumeClaimTemplate: {} } }, '/configs', false],
  ])('on a volume of %s: $3, whether they may outlive it', (_whose, volume, configDir, keeps) => {
    expect(keepsFiles(volume, configDir)).toBe(keeps);
  });

  it('of several volumes are on the innermost', () => {
    const claim = { persistentVolumeClaim: { claimName: 'x' } };
    expect(keepsFiles(claim, '/configs/agent/home', { emptyDir: {} })).toBe(false);
    expect(keepsFiles({ emptyDir: {} }, '/configs/agent/home', claim)).toBe(true);
    expect(keepsFiles({ emptyDir: {} }, '/configs', claim)).toBe(false);
  });
});
