import { randomBytes } from 'node:crypto';

import { aborted, ReconcileError, terminal, transient, waiting } from '../../domain/errors.ts';
import { Deadline } from '../../ports/deadline.ts';
import { refuseNul } from '../../ports/run-streams.ts';
import type { ProbeResult, RunAs, RunOptions, RunResult, WorkspaceTarget } from '../../ports/workspace-target.ts';
import type { ChosenContainer } from './choose-pod.ts';
import { execute, type ContainerPlace, type ExecEnd } from './exec.ts';
import { killExec } from './kill-exec.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeRefusal } from './kube-refusal.ts';
import { PodActivator } from './pod-activator.ts';
import { mountAt, type Mount } from './pod.ts';

/** Time to end what has to be ended; a node that hangs costs no more than this after the deadline. */
const KILL_TIMEOUT_MS = 5_000;
const RETRY_MS = 60_000;

export interface PodTargetParts {
  readonly client: KubeClient;
  /** As {@link WorkspaceTarget.addresses}. */
  readonly addresses: () => readonly string[];
  /** The same container as it is known now; throws as `locate` does where it is not the one that was located. */
  readonly requireSame: (signal: AbortSignal) => Promise<void>;
  /** Whether that is known without asking anybody. */
  readonly isSame: () => boolean;
}

/** One running container of one pod. */
export class PodWorkspaceTarget implements WorkspaceTarget {
  readonly identity: string;
  readonly description: string;
  readonly addresses: () => readonly string[];
  readonly activator: PodActivator;
  readonly #parts: PodTargetParts;
  readonly #place: ContainerPlace;
  readonly #mounts: readonly Mount[];

  constructor({ pod, container }: ChosenContainer, parts: PodTargetParts) {
    this.#parts = parts;
    this.addresses = parts.addresses;
    this.#mounts = container.mounts;
    this.#place = { namespace: pod.namespace, pod: pod.name, container: container.name };
    this.identity = `pod:${pod.uid}/${container.id}`;
    this.description = `container ${container.name} of pod ${pod.namespace}/${pod.name}`;
    this.activator = new PodActivator({
      client: parts.client,
      pod,
      container,
      description: this.description,
      run: (argv, deadlineMs, signal) => this.run(argv, { as: 'observer', deadlineMs, signal }),
    });
  }

  keepsFiles(configDir: string): boolean {
    return mountAt(configDir, this.#mounts)?.isLasting === true;
  }

  async run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    refuseNul(argv);
    const { client } = this.#parts;
    const deadline = new Deadline(client.clock, options.deadlineMs, options.signal);
    const { as, stdin, maxOutputBytes } = options;
    const mark = randomBytes(16).toString('hex');
    try {
      const end = await execute(client, this.#place, argv, { as, mark, stdin, maxOutputBytes }, deadline);
      switch (end.kind) {
        case 'exited':
          return end;
        case 'unsent':
          throw this.#unsent(end.error, deadline);
        case 'unable':
          throw this.#unable(end.who, as);
        case 'unstarted':
          throw await this.#unstarted(end.status, options.signal);
        case 'lost':
          return await this.#endLost(end, { as, mark, deadline });
      }
    } finally {
      deadline.clear();
    }
  }

  /**
   * The copy of the pod: it shows another container, and nothing of what is done in this one. Whoever works there shows only
   * in the deep look that is due in any case.
   */
  async probe(): Promise<ProbeResult> {
    if (this.#parts.isSame()) return { kind: 'token', token: this.identity, isBlind: true };
    return { kind: 'unknown', cause: new Error(`${this.description} is not known to run now`) };
  }

  /** Nothing of a run is left running when the container can be reached, however the run came to its end. */
  async #endLost(end: Extract<ExecEnd, { kind: 'lost' }>, { as, mark, deadline }: LostRun): Promise<RunResult> {
    const { client } = this.#parts;
    const patience = new Deadline(client.clock, KILL_TIMEOUT_MS, new AbortController().signal);
    const killed = await killExec(client, this.#place, { as, mark }, patience).finally(() => patience.clear());
    if (deadline.cause === 'aborted') throw aborted(`a command in ${this.description} was called off`, end.error);
    if (end.ours && killed) {
      if (deadline.cause === undefined) throw end.error;
      throw transient(
        'ExecTimeout',
        `a command in ${this.description} did not end within ${deadline.ms} ms and was killed`,
        end.error,
      );
    }
    const message = killed
      ? `the connection to ${this.description} broke before the exit code came`
      : `a command in ${this.description} may still be running: it could not be reached when that was to be killed`;
    return { kind: 'unknown', message, cause: end.error };
  }

  #unsent(error: unknown, { cause, ms }: Deadline): ReconcileError {
    if (cause === 'aborted') return aborted(`nothing was run in ${this.description}: called off before`, error);
    if (cause === 'expired')
      return transient('ExecTimeout', `${this.description} took no command within ${ms} ms`, error);
    if (error instanceof KubeRefusal && error.status === 404)
      return waiting('WorkspaceNotFound', `${this.description} is gone`, RETRY_MS, error);
    if (error instanceof KubeRefusal && error.status === 403)
      return terminal(
        'AccessDenied',
        `the Kubernetes API lets plugset run nothing in ${this.description}: it needs the verbs get and create on pods/exec (${error.message})`,
        error,
      );
    if (error instanceof ReconcileError) return error;
    return transient('Unreachable', `${this.description} took no command: the connection ended too soon`, error);
  }

  #unable(who: string, as: RunAs): ReconcileError {
    const whom = as === 'observer' ? '0:0' : `${as.uid}:${as.gid}`;
    const advice = who.startsWith('0:')
      ? 'its image has none of setpriv, chroot (coreutils) and su that could do it; give it one, or run the container as that user'
      : `have the operator name that user as the owner in the profile of the runtime (profiles: [{runtime: …, owner: {uid: ${who.replace(':', ', gid: ')}}}]), or run the container as the other (runAsUser)`;
    return terminal(
      'PermissionDenied',
      `${this.description}: the files belong to ${whom}, and what runs there as ${who} cannot become that; ${advice}`,
    );
  }

  /**
   * Why is said in words alone, and by the same code where the node does not answer the API server; whether the container is
   * still the one, that knows.
   */
  async #unstarted(status: string, signal: AbortSignal): Promise<ReconcileError> {
    const said = new Error(status.slice(0, 2000));
    try {
      await this.#parts.requireSame(signal);
    } catch (error) {
      if (error instanceof ReconcileError) return error;
      throw error;
    }
    return transient(
      'ToolMissing',
      `${this.description}: no /bin/sh could be started there, which plugset needs, or its node does not answer`,
      said,
    );
  }
}

interface LostRun {
  readonly as: RunAs;
  readonly mark: string;
  readonly deadline: Deadline;
}
