import type Docker from 'dockerode';

import { transient, unknownOutcome, waiting, type ReconcileError } from '../../domain/errors.ts';
import { isWithin } from '../../ports/target-path.ts';
import type { Activator, RuntimeState, StoppedTarget } from '../../ports/workspace-target.ts';
import { NotConnected } from './engine-agents.ts';
import { statusOf, type DockerEngine } from './engine.ts';

/** The engine's own default between the polite signal and the other one. */
const STOP_SECONDS = 10;
/** Stop and start; an engine under load takes seconds for either. */
const RESTART_TIMEOUT_MS = 90_000;
const RETRY_MS = 60_000;

/** Restarts a container: the same one, with its layer and its volumes. */
export class DockerActivator implements Activator {
  readonly #engine: DockerEngine;
  readonly #containerId: string;
  readonly #description: string;

  constructor(engine: DockerEngine, container: { readonly id: string; readonly description: string }) {
    this.#engine = engine;
    this.#containerId = container.id;
    this.#description = container.description;
  }

  async inspect(configDir: string, signal: AbortSignal): Promise<RuntimeState> {
    const info = await this.#engine.find('inspect', `inspect ${this.#description}`, signal, (docker, abortSignal) =>
      docker.getContainer(this.#containerId).inspect({ abortSignal } as object),
    );
    if (info === undefined) throw waiting('WorkspaceNotFound', `${this.#description} is gone`, RETRY_MS);
    // A restart would wake one that was frozen on purpose, and add another to those the engine tries by itself.
    if (info.State.Status !== 'running')
      throw waiting('WorkspaceNotRunning', `${this.#description} is ${info.State.Status}, not running`, RETRY_MS);
    return {
      startedAtMs: Date.parse(info.State.StartedAt),
      isStarting: isStarting(info),
      wouldLose: lossOf(info, configDir),
    };
  }

  /** Some let us work with containers and tell nothing of the engine itself; then the two clocks are taken for equal. */
  async now(signal: AbortSignal): Promise<number> {
    const { clock } = this.#engine;
    try {
      const info = (await this.#engine.ask(
        'info',
        signal,
        (docker, abortSignal) => docker.info({ abortSignal } as never) as unknown as Promise<unknown>,
      )) as { readonly SystemTime?: string };
      const nowMs = Date.parse(info.SystemTime ?? '');
      return Number.isNaN(nowMs) ? clock.now() : nowMs;
    } catch (error) {
      if (statusOf(error) === undefined || signal.aborted)
        throw this.#engine.classify(`ask for the time of ${this.#description}`, signal, error);
      return clock.now();
    }
  }

  /** It has ended; `undefined` when it has been started or removed meanwhile. */
  async stopped(signal: AbortSignal): Promise<StoppedTarget | undefined> {
    const info = await this.#engine.find('inspect', `inspect ${this.#description}`, signal, (docker, abortSignal) =>
      docker.getContainer(this.#containerId).inspect({ abortSignal } as object),
    );
    if (info?.State.Status !== 'exited') return undefined;
    return {
      description: this.#description,
      startedAtMs: Date.parse(info.State.StartedAt),
      // Of one that has ended, a restart is a start.
      start: (stop) => this.restart(stop),
    };
  }

  async restart(signal: AbortSignal): Promise<void> {
    try {
      await this.#engine.ask(
        'restart',
        signal,
        (docker, abortSignal) => docker.getContainer(this.#containerId).restart({ t: STOP_SECONDS, abortSignal }),
        RESTART_TIMEOUT_MS,
      );
    } catch (error) {
      throw this.#failure(signal, error);
    }
  }

  #failure(signal: AbortSignal, error: unknown): ReconcileError {
    if (signal.aborted || error instanceof NotConnected)
      return this.#engine.classify(`restart ${this.#description}`, signal, error);
    const status = statusOf(error);
    if (status === undefined)
      return unknownOutcome(
        `nobody can say whether ${this.#description} was restarted: the engine gave no answer`,
        error,
      );
    return transient('RestartFailed', `the engine could not restart ${this.#description} (HTTP ${status})`, error);
  }
}

/** `undefined` where no health check says so; an engine may well answer with one that is switched off. */
function isStarting({ State: { Health } }: Docker.ContainerInspectInfo): boolean | undefined {
  if (Health === undefined || !['starting', 'healthy', 'unhealthy'].includes(Health.Status)) return undefined;
  return Health.Status === 'starting';
}

/** A container that is started again keeps its layer and its volumes, and loses what is in memory; one of --rm loses all. */
function lossOf(info: Docker.ContainerInspectInfo, configDir: string): string | undefined {
  if (info.HostConfig.AutoRemove === true) return 'the engine removes the container when it stops (--rm)';
  const inMemory = [
    ...Object.keys(info.HostConfig.Tmpfs ?? {}),
    ...info.Mounts.filter((mount) => mount.Type === 'tmpfs').map((mount) => mount.Destination),
  ];
  const holder = inMemory.find((path) => isWithin(configDir, path));
  return holder === undefined ? undefined : `the config directory is on a tmpfs (${holder})`;
}
