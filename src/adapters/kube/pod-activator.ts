import { transient, unknownOutcome, waiting } from '../../domain/errors.ts';
import type { Activator, RuntimeState, RunResult } from '../../ports/workspace-target.ts';
import type { ChosenContainer } from './choose-pod.ts';
import type { KubeClient } from './kube-client.ts';
import { podsPath } from './pod-copies.ts';
import { mountAt, podFrom, type Container, type PodObject } from './pod.ts';

const ASK_TIMEOUT_MS = 15_000;
const RETRY_MS = 60_000;
/** The signal, what the main process does about it, and the start. */
const RESTART_TIMEOUT_MS = 90_000;
const AGAIN_MS = 500;

export interface PodActivatorOptions extends ChosenContainer {
  readonly client: KubeClient;
  readonly description: string;
  /** Runs argv as the user of the container. */
  readonly run: (argv: readonly string[], deadlineMs: number, signal: AbortSignal) => Promise<RunResult>;
}

/** Has the container's main process end, so that the kubelet starts the container again: never the pod. */
export class PodActivator implements Activator {
  readonly #options: PodActivatorOptions;

  constructor(options: PodActivatorOptions) {
    this.#options = options;
  }

  async inspect(configDir: string, signal: AbortSignal): Promise<RuntimeState> {
    const { detail, container } = await this.#look(signal);
    return {
      startedAtMs: startOf(container),
      isStarting: container.isStarting,
      wouldLose: lossOf(detail, container.name, configDir),
    };
  }

  /** By the clock of its node, which says when containers were started. */
  async now(signal: AbortSignal): Promise<number> {
    const { run, description } = this.#options;
    const result = await run(['date', '+%s'], ASK_TIMEOUT_MS, signal);
    const seconds = result.kind === 'exited' && result.code === 0 ? Number(result.stdout.toString('utf8')) : Number.NaN;
    if (seconds > 0) return seconds * 1000;
    throw transient('ObserveFailed', `${description} does not say what time it is there`);
  }

  async restart(signal: AbortSignal): Promise<void> {
    const { client, container, description, run } = this.#options;
    const until = client.clock.monotonic() + RESTART_TIMEOUT_MS;
    const result = await run(['sh', '-c', 'kill -TERM 1'], ASK_TIMEOUT_MS, signal);
    // The end of the container may take along what asked for it.
    if (result.kind === 'exited' && result.code !== 0 && result.code < 128) {
      throw transient(
        'RestartFailed',
        `the main process of ${description} could not be signalled (exit code ${result.code})`,
        new Error(result.stderr.toString('utf8', 0, 2000)),
      );
    }
    for (;;) {
      const now = await this.#now(signal);
      if (now?.id !== undefined && now.id !== container.id) return;
      if (client.clock.monotonic() > until) throw this.#notBack(now, result);
      await client.clock.sleep(AGAIN_MS, signal);
    }
  }

  #notBack(now: Container | undefined, result: RunResult): Error {
    const { container, description } = this.#options;
    const within = `within ${RESTART_TIMEOUT_MS / 1000} s`;
    if (now?.id === container.id && result.kind === 'exited')
      return transient('RestartFailed', `the main process of ${description} has not ended on SIGTERM ${within}`);
    if (now?.id === container.id)
      return unknownOutcome(`nobody can say whether the main process of ${description} was signalled`);
    const why = now?.why === undefined || now.why === '' ? '' : ` (${now.why})`;
    return transient('RestartFailed', `${description} has ended on SIGTERM and is not back ${within}${why}`);
  }

  async #look(signal: AbortSignal): Promise<{ readonly detail: PodObject; readonly container: Container }> {
    const { pod, container, description } = this.#options;
    const detail = await this.#read(signal);
    const now = containerIn(detail, container.name);
    if (detail === undefined || detail.metadata.uid !== pod.uid)
      throw waiting('WorkspaceNotFound', `${description} is gone`, RETRY_MS);
    if (now?.id !== container.id)
      throw waiting('ContainerRestarting', `${description} was started again meanwhile, or is about to be`, RETRY_MS);
    return { detail, container: now };
  }

  /** `undefined`: the pod is gone, which is no way for a restart to come to its end. */
  async #now(signal: AbortSignal): Promise<Container | undefined> {
    const { pod, container, description } = this.#options;
    const detail = await this.#read(signal);
    if (detail === undefined || detail.metadata.uid !== pod.uid)
      throw unknownOutcome(`${description} went away while it was restarted`);
    return containerIn(detail, container.name);
  }

  async #read(signal: AbortSignal): Promise<PodObject | undefined> {
    const { client, pod } = this.#options;
    const query = { fieldSelector: `metadata.name=${pod.name}` };
    const { items } = await client.call<{ readonly items: readonly PodObject[] }>(
      { method: 'GET', path: podsPath(pod.namespace), query, timeoutMs: ASK_TIMEOUT_MS },
      signal,
    );
    return items[0];
  }
}

function containerIn(detail: PodObject | undefined, name: string): Container | undefined {
  return detail === undefined ? undefined : podFrom(detail).containers.find((one) => one.name === name);
}

function startOf({ startedAt = '' }: Container): number {
  const ms = Date.parse(startedAt);
  return Number.isNaN(ms) ? 0 : ms;
}

/** What the kubelet makes from objects anew at each start, and nothing can be installed in. */
const MADE_ANEW = ['configMap', 'secret', 'projected', 'downwardAPI', 'image'] as const;

/** A container that ends loses its own layer, and keeps what is on the volumes of its pod, an `emptyDir` too. */
function lossOf({ spec = {} }: PodObject, name: string, configDir: string): string | undefined {
  if ((spec.restartPolicy ?? 'Always') !== 'Always')
    return `the pod has restartPolicy ${spec.restartPolicy}, so the container would not be started again`;
  if (spec.hostPID === true || spec.shareProcessNamespace === true)
    return 'the containers of the pod share their processes, so the main process of one cannot be signalled';
  const mount = mountAt(configDir, spec.containers?.find((one) => one.name === name)?.volumeMounts ?? []);
  const volume = spec.volumes?.find((one) => one.name === mount?.name);
  if (mount === undefined || volume === undefined)
    return 'the config directory is on no volume that outlives the container';
  const kind = MADE_ANEW.find((one) => one in volume);
  return kind === undefined ? undefined : `the config directory is on a volume of kind ${kind} (${mount.mountPath})`;
}
