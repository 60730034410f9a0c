import { randomBytes } from 'node:crypto';

import { aborted, ReconcileError, terminal, transient } from '../../domain/errors.ts';
import type { Activation } from '../../domain/profile.ts';
import { Deadline } from '../../ports/deadline.ts';
import { refuseNul } from '../../ports/run-streams.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { ProbeResult, RunOptions, RunResult, WorkspaceTarget } from '../../ports/workspace-target.ts';
import type { Becoming, Prefix } from './become.ts';
import { execute, type ExecEnd } from './execute.ts';
import { NotSent, withFreshLease, type LeaseParts } from './fresh-lease.ts';
import { killRun, RUN_MARK } from './kill-run.ts';
import type { Lease } from './session-pool.ts';
import type { SshSession } from './session.ts';
import { SshActivator } from './ssh-activator.ts';

/** Time to end what has to be ended; a host that hangs costs no more than this after the deadline. */
const KILL_TIMEOUT_MS = 5_000;

/**
 * The PATH of a login may begin with a directory of the agent, and a look runs as root: with it, the agent could put its
 * own program in the place of `sh`. The same goes for the loader's variables.
 */
const ENVIRONMENT = [
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'LD_PRELOAD=',
  'LD_LIBRARY_PATH=',
  'LC_ALL=C',
] as const;

/** The operator's own commands run as at a login, but print dates that can be read here. */
const LOGIN_ENVIRONMENT = ['LC_ALL=C', 'TZ=UTC'] as const;

export interface SshTargetParts extends LeaseParts {
  readonly becoming: Becoming;
}

/** What a question of ours prints is a word. */
const ANSWER_BYTES = 4 * 1024;

/** As whom a command runs; `login`: as whoever logs in, in the environment that he has. */
type As = RunOptions['as'] | 'login';
type SshRunOptions = Omit<RunOptions, 'as'> & { readonly as: As };

/** One host. */
export class SshWorkspaceTarget implements WorkspaceTarget {
  readonly identity: string;
  readonly activator?: SshActivator;
  readonly #endpoint: SshEndpoint;
  readonly #parts: SshTargetParts;

  constructor(endpoint: SshEndpoint, parts: SshTargetParts, identity: string, activation: Activation | undefined) {
    this.#endpoint = endpoint;
    this.#parts = parts;
    this.identity = identity;
    if (activation !== undefined)
      this.activator = new SshActivator(endpoint.description, activation, (argv, deadlineMs, signal) =>
        this.#run(argv, { as: 'login', deadlineMs, signal }),
      );
  }

  /** Shows how far its key can be trusted, from the first connection on. */
  get description(): string {
    const { description, id } = this.#endpoint;
    return this.#parts.pool.isVerified(id) === false ? `${description} (host key not verified)` : description;
  }

  run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    return this.#run(argv, options);
  }

  /** A command is all that could be asked with, and it costs as much as the look. */
  async probe(): Promise<ProbeResult> {
    return { kind: 'unsupported' };
  }

  async #run(argv: readonly string[], options: SshRunOptions): Promise<RunResult> {
    refuseNul(argv);
    const deadline = new Deadline(this.#parts.clock, options.deadlineMs, options.signal);
    const where = { endpoint: this.#endpoint, use: 'commands' } as const;
    try {
      return await withFreshLease(this.#parts, where, deadline.signal, (lease) =>
        this.#runOn(lease, argv, options, deadline).finally(() => lease.release()),
      );
    } catch (error) {
      throw this.#classify(error, deadline);
    } finally {
      deadline.clear();
    }
  }

  async #runOn(
    { session }: Lease,
    argv: readonly string[],
    options: SshRunOptions,
    deadline: Deadline,
  ): Promise<RunResult> {
    const prefix = options.as === 'login' ? [] : await this.#prefix(session, options.as, deadline);
    const mark = randomBytes(16).toString('hex');
    const settings = [...(options.as === 'login' ? LOGIN_ENVIRONMENT : ENVIRONMENT), `${RUN_MARK}=${mark}`];
    const { stdin, maxOutputBytes } = options;
    const execution = { mark, stdin, maxOutputBytes };
    // Whatever becomes somebody else drops the environment; `env` behind it costs a process.
    const end = await (prefix.length === 0
      ? execute(session, argv, { ...execution, settings }, deadline)
      : execute(session, [...prefix, 'env', ...settings, ...argv], execution, deadline));
    if (end.kind === 'exited') return end;
    if (end.kind === 'lost') return this.#endLost(end, { session, prefix, mark, deadline, options });
    throw end.kind === 'refused' ? this.#refusal(end) : new NotSent(end.error);
  }

  #prefix(session: SshSession, as: RunOptions['as'], deadline: Deadline): Promise<Prefix> {
    const { becoming } = this.#parts;
    return becoming.prefixFor(session, this.#endpoint, as, async (script, args) => {
      const mark = randomBytes(16).toString('hex');
      const options = { mark, maxOutputBytes: ANSWER_BYTES };
      const whole = ['env', `${RUN_MARK}=${mark}`, 'sh', '-c', script, 'sh', ...args];
      const end = await execute(session, whole, options, deadline);
      if (end.kind === 'exited') return end.stdout.toString();
      // A sudo that hangs would go on, and keep its channel, of which a connection has few.
      if (end.kind === 'lost') await this.#kill(end, { session, prefix: [], mark });
      // A question: whatever became of it, the command itself was not sent.
      throw end.kind === 'refused' ? this.#refusal(end) : new NotSent(end.error);
    });
  }

  /** `false`: something may still be running, and its connection is given up. */
  async #kill({ closed }: Extract<ExecEnd, { kind: 'lost' }>, run: KillableRun): Promise<boolean> {
    const { pool, clock } = this.#parts;
    const { session, prefix, mark } = run;
    const patience = new Deadline(clock, KILL_TIMEOUT_MS, new AbortController().signal);
    const marked = { endpoint: this.#endpoint, prefix, mark, closed };
    const isKilled = await killRun(pool, clock, marked, patience).finally(() => patience.clear());
    if (!isKilled) session.fault();
    return isKilled;
  }

  /** Nothing of a run is left running when the host can be reached, however the run came to its end. */
  async #endLost(end: Extract<ExecEnd, { kind: 'lost' }>, run: LostRun): Promise<RunResult> {
    const { deadline, options } = run;
    const killed = await this.#kill(end, run);
    if (deadline.cause === 'aborted') throw aborted(`a command on ${this.description} was called off`, end.error);
    if (end.ours && killed) {
      if (deadline.cause === undefined) throw end.error;
      throw transient(
        'ExecTimeout',
        `a command on ${this.description} did not end within ${options.deadlineMs} ms and was killed`,
        end.error,
      );
    }
    const message = killed
      ? `the connection to ${this.description} broke before the exit code came`
      : `a command on ${this.description} may still be running: the host did not answer when it was to be killed`;
    return { kind: 'unknown', message, cause: end.error };
  }

  #refusal({ code, stderr }: Extract<ExecEnd, { kind: 'refused' }>): ReconcileError {
    const said = new Error(stderr.subarray(0, 2000).toString('utf8'));
    if (code === 126 || code === 127)
      return terminal(
        'ToolMissing',
        `${this.description}: there is no /bin/sh that can be run (exit code ${code})`,
        said,
      );
    const { user } = this.#endpoint;
    return terminal(
      'PermissionDenied',
      `${this.description}: the login shell of ${user} ran nothing (exit code ${code}); plugset needs one that does`,
      said,
    );
  }

  #classify(error: unknown, { cause, ms }: Deadline): unknown {
    if (cause === 'aborted' && !isOutcome(error))
      return aborted(`nothing was run on ${this.description}: called off before`, error);
    if (cause === 'expired' && !isOutcome(error))
      return transient('ExecTimeout', `${this.description} took no command within ${ms} ms`, error);
    if (!(error instanceof NotSent)) return error;
    const text = `${this.description} took no command: the connection broke, or it has no room`;
    return transient('Unreachable', text, error.cause);
  }
}

interface KillableRun {
  readonly session: SshSession;
  readonly prefix: Prefix;
  readonly mark: string;
}

interface LostRun extends KillableRun {
  readonly deadline: Deadline;
  readonly options: SshRunOptions;
}

/** Said of the command itself, and not of the way to it. */
function isOutcome(error: unknown): boolean {
  return error instanceof ReconcileError && error.reason !== 'Unreachable';
}
