import { randomBytes } from 'node:crypto';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { posix } from 'node:path';

import { PLUGINS_DIRECTORY, RECEIPTS_DIRECTORY, STATE_DIRECTORY } from '../../domain/layout.ts';
import { aborted, transient, waiting, type ReconcileError } from '../../domain/errors.ts';
import { Deadline } from '../../ports/deadline.ts';
import { refuseNul } from '../../ports/run-streams.ts';
import type { ProbeResult, RunAs, RunOptions, RunResult, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { DockerActivator } from './docker-activator.ts';
import type { DockerEngine } from './engine.ts';
import { execute, type ExecEnd } from './exec.ts';
import type { FoundContainer } from './find-container.ts';
import { killExec, RUN_MARK } from './kill-exec.ts';

/** Time for the engine to kill what has to be ended; a hung engine costs no more than this after the deadline. */
const KILL_TIMEOUT_MS = 5_000;
const RETRY_MS = 60_000;

/** Every apply renames an entry in one of these, and that moves the directory's time; edits inside a tree do not. */
const PROBED = [PLUGINS_DIRECTORY, RECEIPTS_DIRECTORY] as const;

/** One running container. */
export class DockerWorkspaceTarget implements WorkspaceTarget {
  readonly identity: string;
  readonly description: string;
  readonly activator: DockerActivator;
  readonly #engine: DockerEngine;
  readonly #containerId: string;
  readonly #startedAt: string | undefined;

  constructor(engine: DockerEngine, container: FoundContainer) {
    this.#engine = engine;
    this.#containerId = container.id;
    this.#startedAt = container.startedAt;
    this.identity = `docker:${container.id}`;
    this.description = `container ${container.name} on engine ${engine.name}`;
    this.activator = new DockerActivator(engine, { id: container.id, description: this.description });
  }

  async run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    refuseNul(argv);
    const deadline = new Deadline(this.#engine.clock, options.deadlineMs, options.signal);
    const user = userOf(options.as);
    const mark = randomBytes(16).toString('hex');
    const { stdin, maxOutputBytes } = options;
    const env = [`${RUN_MARK}=${mark}`];
    try {
      const end = await execute(this.#engine, this.#containerId, argv, { user, env, stdin, maxOutputBytes }, deadline);
      if (end.kind === 'exited') return end;
      if (end.kind === 'refused') throw this.#refusal(end.status, end.error, options.signal);
      if (end.kind === 'unsent') throw this.#engine.classify(`run in ${this.description}`, options.signal, end.error);
      return await this.#endLost(end, { user, mark, deadline, options });
    } finally {
      deadline.clear();
    }
  }

  async probe(configDir: string, signal: AbortSignal): Promise<ProbeResult> {
    try {
      const [started, ...stats] = await Promise.all([
        this.#startedAt ?? this.#askStartedAt(signal),
        ...PROBED.map((name) => this.#stat(posix.join(configDir, name), signal)),
      ]);
      const seen = stats.filter((stat) => stat !== undefined);
      if (seen.length === PROBED.length)
        return { kind: 'token', token: [this.#containerId, started, ...seen].join(' ') };
      if (seen.length === 0 && (await this.#seemsBlank(configDir, signal))) return { kind: 'blank' };
      return { kind: 'unknown', cause: new Error(`the engine does not see all of ${configDir}`) };
    } catch (cause) {
      return { kind: 'unknown', cause };
    }
  }

  /** A container that is gone answers 404 as well, so the directory itself has to be there. */
  async #seemsBlank(configDir: string, signal: AbortSignal): Promise<boolean> {
    const [directory, state] = await Promise.all(
      [configDir, posix.join(configDir, STATE_DIRECTORY)].map((path) => this.#stat(path, signal)),
    );
    return directory !== undefined && state === undefined;
  }

  async #askStartedAt(signal: AbortSignal): Promise<string> {
    const info = await this.#engine.ask('inspect', signal, (docker, abortSignal) =>
      docker.getContainer(this.#containerId).inspect({ abortSignal } as object),
    );
    if (info.State.Status !== 'running') throw this.#notRunning(undefined);
    return info.State.StartedAt;
  }

  /** `undefined` for a 404, which proves nothing: a directory on a tmpfs is there and answers it. */
  async #stat(path: string, signal: AbortSignal): Promise<string | undefined> {
    return this.#engine.find('stat', `look at ${path}`, signal, async (docker, abortSignal) => {
      const response = (await docker
        .getContainer(this.#containerId)
        .infoArchive({ path, abortSignal })) as IncomingMessage & { readonly req: ClientRequest };
      // The answer to a HEAD has no length here, and Node would close the connection in search of its end.
      response.req.shouldKeepAlive = true;
      // Frees the connection for the next request.
      response.resume();
      const stat = response.headers['x-docker-container-path-stat'];
      if (typeof stat !== 'string') throw new Error(`the engine said nothing about ${path}`);
      return stat;
    });
  }

  /** Nothing of a run is left running when the engine can be asked, however the run came to its end. */
  async #endLost(end: Extract<ExecEnd, { kind: 'lost' }>, run: LostRun): Promise<RunResult> {
    const patience = new Deadline(this.#engine.clock, KILL_TIMEOUT_MS, new AbortController().signal);
    let killed: boolean;
    try {
      const { user, mark } = run;
      killed = await killExec(this.#engine, { containerId: this.#containerId, exec: end.exec, user, mark }, patience);
    } finally {
      patience.clear();
    }
    if (run.deadline.cause === 'aborted') throw aborted(`a command in ${this.description} was called off`, end.error);
    if (end.ours && killed) throw this.#endedByUs(end.error, run);
    const message = killed
      ? `the connection to ${this.description} broke before the exit code came`
      : `a command in ${this.description} may still be running: the engine did not answer when it was to be killed`;
    return { kind: 'unknown', message, cause: end.error };
  }

  #endedByUs(error: unknown, { deadline, options }: LostRun): unknown {
    if (deadline.cause === undefined) return error;
    return transient(
      'ExecTimeout',
      `a command in ${this.description} did not end within ${options.deadlineMs} ms and was killed`,
      error,
    );
  }

  #refusal(status: number, error: unknown, signal: AbortSignal): ReconcileError {
    if (status === 404) return waiting('WorkspaceNotFound', `${this.description} is gone`, RETRY_MS, error);
    if (status === 409) return this.#notRunning(error);
    return this.#engine.classify(`run in ${this.description}`, signal, error);
  }

  #notRunning(cause: unknown): ReconcileError {
    return waiting('WorkspaceNotRunning', `${this.description} does not run any more`, RETRY_MS, cause);
  }
}

interface LostRun {
  readonly user: string;
  readonly mark: string;
  readonly deadline: Deadline;
  readonly options: RunOptions;
}

/** Inside a container we may be root, so a look is. */
function userOf(as: RunAs): string {
  return as === 'observer' ? '0:0' : `${as.uid}:${as.gid}`;
}
