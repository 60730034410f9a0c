import { describe, expect, it } from 'vitest';

import type { KubeClient } from '../../../../src/adapters/kube/kube-client.ts';
import { PodActivator } from '../../../../src/adapters/kube/pod-activator.ts';
import { podFrom } from '../../../../src/adapters/kube/pod.ts';
import type { RunResult } from '../../../../src/ports/workspace-target.ts';
import { FakeClock } from '../../../support/fake-clock.ts';

const SIGNAL = new AbortController().signal;

interface Made {
  readonly spec?: object;
  readonly mounts?: readonly object[];
  readonly container?: object;
  readonly uid?: string;
}

/** As the API server tells it. */
function detail({ spec, mounts, container, uid = 'u1' }: Made = {}): object {
  return {
    metadata: { name: 'agent', namespace: 'team-a', uid, resourceVersion: '1' },
    spec: {
      nodeName: 'n1',
      containers: [{ name: 'main', volumeMounts: mounts ?? [{ name: 'data', mountPath: '/configs' }] }],
      volumes: [
        { name: 'data', emptyDir: {} },
        { name: 'settings', configMap: { name: 'x' } },
      ],
      ...spec,
    },
    status: {
      phase: 'Running',
      containerStatuses: [
        {
          name: 'main',
          containerID: 'c://1',
          started: true,
          state: { running: { startedAt: '2026-01-01T00:00:10Z' } },
          ...container,
        },
      ],
    },
  };
}

const exited = (code: number): RunResult => ({
  kind: 'exited',
  code,
  stdout: Buffer.alloc(0),
  stderr: Buffer.alloc(0),
});

/** `answers`: what is read of the pod, one after the other; the last one from then on. */
function activator(answers: readonly object[], signalled: RunResult = exited(0)) {
  const clock = new FakeClock();
  let reads = 0;
  const call = async (): Promise<object> => ({
    items: [answers[Math.min(reads++, answers.length - 1)]].filter(Boolean),
  });
  const pod = podFrom(detail() as never);
  const [container] = pod.containers;
  if (container?.id === undefined) throw new Error('it runs');
  const made = new PodActivator({
    client: { clock, call } as unknown as KubeClient,
    pod,
    container: { ...container, id: container.id },
    description: 'container main of pod team-a/agent',
    run: async () => signalled,
  });
  return { activator: made, clock };
}

describe('what a restart of a container would lose', () => {
  it.each<readonly [string, RegExp | undefined, Made]>([
    ['nothing on an emptyDir', undefined, {}],
    ['nothing below a volume', undefined, { mounts: [{ name: 'data', mountPath: '/' }] }],
    [
      'nothing on a claim',
      undefined,
      { spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'x' } }] } },
    ],
    ['its own layer', /on no volume that outlives/, { mounts: [] }],
    ['what is beside a volume', /on no volume that outlives/, { mounts: [{ name: 'data', mountPath: '/configs2' }] }],
    [
      'what is above a volume',
      /on no volume that outlives/,
      { mounts: [{ name: 'data', mountPath: '/configs/plugins' }] },
    ],
    [
      'what is made anew',
      /of kind configMap \(\/configs\)/,
      {
        mounts: [
          { name: 'data', mountPath: '/' },
          { name: 'settings', mountPath: '/configs' },
        ],
      },
    ],
    ['itself, where it is not started again', /restartPolicy OnFailure/, { spec: { restartPolicy: 'OnFailure' } }],
    ['the processes of others', /share their processes/, { spec: { shareProcessNamespace: true } }],
    ['those of the node', /share their processes/, { spec: { hostPID: true } }],
  ])('%s', async (_what, expected, made) => {
    const { wouldLose } = await activator([detail(made)]).activator.inspect('/configs', SIGNAL);
    if (expected === undefined) expect(wouldLose).toBeUndefined();
    else expect(wouldLose).toMatch(expected);
  });
});

describe('a container that is looked at', () => {
  it('says since when it runs, and whether it has passed its startup probe', async () => {
    const startedAtMs = Date.parse('2026-01-01T00:00:10Z');
    expect(await activator([detail()]).activator.inspect('/configs', SIGNAL)).toMatchObject({
      startedAtMs,
      isStarting: false,
    });
    const starting = detail({ container: { started: false } });
    expect(await activator([starting]).activator.inspect('/configs', SIGNAL)).toMatchObject({ isStarting: true });
  });

  it('is no other one', async () => {
    const look = (answer: object | undefined): Promise<unknown> =>
      activator(answer === undefined ? [] : [answer]).activator.inspect('/configs', SIGNAL);
    await expect(look(undefined)).rejects.toMatchObject({ class: 'waiting', reason: 'WorkspaceNotFound' });
    await expect(look(detail({ uid: 'u2' }))).rejects.toMatchObject({ reason: 'WorkspaceNotFound' });
    await expect(look(detail({ container: { containerID: 'c://2' } }))).rejects.toMatchObject({
      reason: 'ContainerRestarting',
    });
  });
});

describe('a restart', () => {
  const again = detail({ container: { containerID: 'c://2' } });
  const down = detail({ container: { state: { waiting: { reason: 'CrashLoopBackOff' } } } });
  const unknown: RunResult = { kind: 'unknown', message: 'it broke', cause: undefined };

  const restart = async (answers: readonly object[], signalled?: RunResult): Promise<unknown> => {
    const { activator: made, clock } = activator(answers, signalled);
    const outcome = made.restart(SIGNAL).then(
      () => 'done',
      (error: unknown) => error,
    );
    await clock.advance(100_000);
    return outcome;
  };

  it('is done when another container runs, whatever was heard of the signal', async () => {
    expect(await restart([detail(), down, again])).toBe('done');
    expect(await restart([again], unknown)).toBe('done');
    expect(await restart([again], exited(143))).toBe('done');
  });

  it('has failed where the main process could not be signalled, does not end, or does not come back', async () => {
    expect(await restart([detail()], exited(1))).toMatchObject({ reason: 'RestartFailed' });
    expect(await restart([detail()])).toMatchObject({
      reason: 'RestartFailed',
      message: expect.stringContaining('has not ended on SIGTERM') as string,
    });
    expect(await restart([down])).toMatchObject({
      reason: 'RestartFailed',
      message: expect.stringContaining('is not back within 90 s (CrashLoopBackOff)') as string,
    });
  });

  it('is unknown where nothing was heard and nothing is seen of it, and where the pod went away', async () => {
    expect(await restart([detail()], unknown)).toMatchObject({ class: 'unknown' });
    expect(await restart([detail(), detail({ uid: 'u2' })])).toMatchObject({ class: 'unknown' });
  });
});
