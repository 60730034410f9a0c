import { describe, expect, it } from 'vitest';

import { chooseContainer, podWish, requirePossible } from '../../../../src/adapters/kube/choose-pod.ts';
import { podFrom, type Pod } from '../../../../src/adapters/kube/pod.ts';
import { workspaceAt } from '../../../support/workspaces.ts';

const LABEL = 'plugset.dev/workspace';
const RUNNING = { running: { startedAt: '2026-01-01T00:00:00Z' } };

interface Made {
  readonly name?: string;
  readonly namespace?: string;
  readonly metadata?: object;
  readonly labels?: Readonly<Record<string, string>>;
  readonly spec?: object;
  readonly phase?: string;
  readonly status?: object;
  /** Of the container `main`. */
  readonly container?: object;
}

function pod({ name = 'agent', namespace = 'team-a', labels = { [LABEL]: 'alice' }, ...made }: Made = {}): Pod {
  return podFrom({
    metadata: { name, namespace, uid: `uid-of-${name}`, resourceVersion: '1', labels, ...made.metadata },
    spec: { nodeName: 'n1', containers: [{ name: 'main' }], ...made.spec },
    status: {
      phase: made.phase ?? 'Running',
      containerStatuses: [
        {
          name: 'main',
          containerID: 'containerd://1',
          restartCount: 0,
          started: true,
          state: RUNNING,
          ...made.container,
        },
      ],
      ...made.status,
    },
  } as never);
}

const wish = (target: object = {}, name = 'alice') => podWish(workspaceAt({ pod: target }, { name }));
const choose = (...pods: readonly Pod[]): unknown => chooseContainer(pods, wish());
const waiting = (reason: string, message: RegExp = /./): object => ({
  class: 'waiting',
  reason,
  message: expect.stringMatching(message) as string,
});

function thrownBy(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

describe('the pod of a workspace', () => {
  it('is the one that runs', () => {
    expect(choose(pod())).toMatchObject({ pod: { name: 'agent' }, container: { id: 'containerd://1' } });
  });

  it('is no other than those of its namespace, by default of its name', () => {
    expect(wish()).toMatchObject({ namespace: 'team-a', labels: { [LABEL]: 'alice' }, name: undefined });
    expect(wish({ name: 'x' })).toMatchObject({ name: 'x', labels: {} });
    expect(wish({ selector: { app: 'a' } })).toMatchObject({ labels: { app: 'a' } });
  });

  it.each<readonly [string, RegExp, Made]>([
    [
      'PodPending',
      /no node yet \(0\/3 nodes/,
      {
        phase: 'Pending',
        spec: { nodeName: undefined },
        status: {
          containerStatuses: undefined,
          conditions: [{ type: 'PodScheduled', status: 'False', message: '0/3 nodes are available' }],
        },
      },
    ],
    ['PodNotReady', /not been started yet$/, { phase: 'Pending', status: { containerStatuses: undefined } }],
    [
      'PodNotReady',
      /\(ImagePullBackOff\)$/,
      {
        phase: 'Pending',
        container: { state: { waiting: { reason: 'ImagePullBackOff' } }, containerID: '' },
      },
    ],
    [
      'ContainerRestarting',
      /exit code 3 and is started again \(CrashLoopBackOff\)$/,
      {
        container: {
          state: { waiting: { reason: 'CrashLoopBackOff' } },
          lastState: { terminated: { exitCode: 3 } },
          restartCount: 4,
        },
      },
    ],
    [
      'ContainerRestarting',
      /exit code 1 .*\(Error\)$/,
      {
        spec: { restartPolicy: 'OnFailure' },
        container: { state: { terminated: { reason: 'Error', exitCode: 1 } } },
      },
    ],
    [
      'PodCompleted',
      /restarts none$/,
      {
        spec: { restartPolicy: 'OnFailure' },
        container: { state: { terminated: { reason: 'Completed', exitCode: 0 } } },
      },
    ],
    ['PodCompleted', /has run to its end$/, { phase: 'Succeeded' }],
    ['PodCompleted', /has failed \(OutOfcpu\)$/, { phase: 'Failed', status: { reason: 'OutOfcpu' } }],
    ['PodEvicted', /from node n1$/, { phase: 'Failed', status: { reason: 'Evicted' } }],
    [
      'WorkspaceNotFound',
      /labelled plugset.dev\/workspace=alice .*agent, which is being deleted/,
      {
        metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' },
      },
    ],
  ])('that cannot be worked on is %s: %s', (reason, message, made) => {
    expect(thrownBy(() => choose(pod(made)))).toMatchObject(waiting(reason, message));
  });

  it('that does not exist is awaited', () => {
    expect(thrownBy(() => choose())).toMatchObject(waiting('WorkspaceNotFound', /has no pod labelled/));
  });

  it('is the one that runs beside those that end, have ended, or have yet to start', () => {
    const others = [
      pod({ name: 'a', metadata: { deletionTimestamp: 'now' } }),
      pod({ name: 'b', phase: 'Succeeded' }),
      pod({ name: 'c', phase: 'Failed', status: { reason: 'Evicted' } }),
      pod({ name: 'd', phase: 'Pending' }),
    ];
    expect(choose(...others, pod())).toMatchObject({ pod: { name: 'agent' } });
  });

  it('is none of several', () => {
    expect(thrownBy(() => choose(pod({ name: 'b' }), pod({ name: 'a' })))).toMatchObject(
      waiting('TargetAmbiguous', /^pods a and b of namespace team-a .*; plugset goes on when only one is$/),
    );
    const starting = { phase: 'Pending' };
    expect(thrownBy(() => choose(pod({ name: 'b', ...starting }), pod({ name: 'a', ...starting })))).toMatchObject(
      waiting('TargetAmbiguous'),
    );
  });

  it('is not one that is labelled for another workspace, unless that very label is asked for', () => {
    const carols = pod({ labels: { [LABEL]: 'carol' } });
    expect(thrownBy(() => chooseContainer([carols], wish({ name: 'agent' })))).toMatchObject({
      class: 'terminal',
      reason: 'TargetUnproven',
    });
    expect(chooseContainer([carols], wish({ selector: { [LABEL]: 'carol' } }))).toMatchObject({ pod: carols });
  });

  it('cannot be found by a name that no label can hold', () => {
    for (const name of ['a'.repeat(64), 'a.']) {
      expect(thrownBy(() => requirePossible(wish({}, name)))).toMatchObject({
        class: 'terminal',
        reason: 'InvalidSpec',
      });
      expect(thrownBy(() => requirePossible(wish({ name: 'agent' }, name)))).toBeUndefined();
      expect(thrownBy(() => requirePossible(wish({ selector: { app: 'a' } }, name)))).toBeUndefined();
    }
    expect(thrownBy(() => requirePossible(wish({}, 'a'.repeat(63))))).toBeUndefined();
  });
});

describe('the container of a pod', () => {
  const two = (metadata: object = {}): Pod =>
    pod({
      metadata,
      spec: { containers: [{ name: 'main' }, { name: 'proxy' }] },
      status: {
        containerStatuses: [
          { name: 'proxy', containerID: 'c://proxy', state: RUNNING },
          { name: 'main', containerID: 'c://main', state: RUNNING },
        ],
      },
    });

  it('is the one that is named, else the one that kubectl would take by annotation', () => {
    expect(chooseContainer([two()], wish({ container: 'proxy' }))).toMatchObject({ container: { id: 'c://proxy' } });
    const annotations = { 'kubectl.kubernetes.io/default-container': 'main' };
    expect(chooseContainer([two({ annotations })], wish())).toMatchObject({ container: { id: 'c://main' } });
  });

  it('has to be named where there are several, and has to be there', () => {
    expect(thrownBy(() => choose(two()))).toMatchObject({
      class: 'terminal',
      reason: 'InvalidSpec',
      message: expect.stringContaining('it has main, proxy') as string,
    });
    expect(thrownBy(() => chooseContainer([pod()], wish({ container: 'other' })))).toMatchObject({
      reason: 'InvalidSpec',
      message: expect.stringContaining('has no container other') as string,
    });
  });
});
