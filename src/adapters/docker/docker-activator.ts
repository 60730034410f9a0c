import { posix } from 'node:path';

import type Docker from 'dockerode';

import { transient, unknownOutcome, waiting, type ReconcileError } from '../../domain/errors.ts';
import type { Activator, RuntimeState } from '../../ports/workspace-target.ts';
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
    if (!info.State.Running)
      throw waiting('WorkspaceNotRunning', `${this.#description} does not run any more`, RETRY_MS);
    return {
      startedAtMs: Date.parse(info.State.StartedAt),
      isStarting: info.State.Health === undefined ? undefined : info.State.Health.Status === 'starting',
      wouldLose: lossOf(info, configDir),
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
    if (signal.aborted) return this.#engine.classify(`restart ${this.#description}`, signal, error);
    const status = statusOf(error);
    if (status === undefined)
      return unknownOutcome(
        `nobody can say whether ${this.#description} was restarted: the engine gave no answer`,
        error,
      );
    return transient('RestartFailed', `the engine could not restart ${this.#description} (HTTP ${status})`, error);
  }
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

function isWithin(path: string, directory: string): boolean {
  const relative = posix.relative(directory, path);
  return relative === '' || (relative !== '..' && !relative.startsWith('../'));
}
