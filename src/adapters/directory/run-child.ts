import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { constants } from 'node:os';

import { aborted, terminal, transient, waiting, type ReconcileError } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { CappedOutput, feedStdin } from '../../ports/run-streams.ts';
import type { RunAs, RunOptions, RunResult } from '../../ports/workspace-target.ts';

export interface ChildRun {
  readonly argv: readonly string[];
  /** As people know it. */
  readonly directory: string;
  /** The same, as it is entered. */
  readonly entrance: string;
  readonly searchPath: string;
  readonly options: RunOptions;
  readonly clock: Clock;
}

/** SIGKILL leaves only processes alive that hang in the kernel (a dead network disk). */
const KILL_GRACE_MS = 5_000;
const RETRY_MISSING_MS = 10_000;

/** One local process, from spawn to exit. `WorkspaceTarget.run` says what is thrown. */
export async function runChild(run: ChildRun): Promise<RunResult> {
  const { options, clock } = run;
  if (options.signal.aborted) throw aborted(`nothing was run in directory ${run.directory}: called off before`);
  const spawned = await spawnChild(run);
  if (!('child' in spawned)) return spawned;
  const { child } = spawned;
  const deadline = new Deadline(clock, options.deadlineMs, options.signal);
  const over = new AbortController();
  const stdout = new CappedOutput(options.maxOutputBytes);
  const stderr = new CappedOutput(options.maxOutputBytes);
  const exit = exitOf(child);
  try {
    const code = await Promise.race([exit, firstFailure(run, child, { stdout, stderr, deadline, over: over.signal })]);
    return { kind: 'exited', code, stdout: stdout.toBuffer(), stderr: stderr.toBuffer() };
  } catch (failure) {
    const killed = await killGroup(child, exit, clock);
    if (killed || deadline.cause === 'aborted') throw failure;
    return { kind: 'unknown', message: `a command in directory ${run.directory} could not be killed`, cause: failure };
  } finally {
    deadline.clear();
    over.abort();
  }
}

/** A child that runs, or the result of a program that cannot be run, as a shell would give it. */
async function spawnChild(run: ChildRun): Promise<{ readonly child: ChildProcessWithoutNullStreams } | RunResult> {
  const [program = '', ...args] = run.argv;
  const ids = spawnIds(run);
  try {
    const child = spawn(program, args, {
      cwd: run.entrance,
      env: { PATH: run.searchPath, LANG: 'C' },
      // A process group of its own, so that the children of the command end with it.
      detached: true,
      ...ids,
    });
    // First of all: without a file descriptor left there are no streams, and an error without a listener ends this process.
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', reject);
    });
    // A command that exits early closes its stdin under us; what counts is its exit code.
    child.stdin.on('error', () => undefined);
    return { child };
  } catch (error) {
    const code = exitCodeOfSpawnError(error, ids);
    // ENOENT is said of a missing program and of a missing directory alike.
    if (code === undefined || !(await isDirectory(run.entrance))) throw classifySpawnError(error, run);
    return { kind: 'exited', code, stdout: Buffer.alloc(0), stderr: Buffer.from(`${program}: cannot be run\n`) };
  }
}

/** Nothing to set for the observer: root or not, what this process may see is all that a look can show. */
function spawnIds(run: ChildRun): { readonly uid?: number; readonly gid?: number } {
  const as: RunAs = run.options.as;
  const own = { uid: process.geteuid?.(), gid: process.getegid?.() };
  if (as === 'observer' || (own.uid === as.uid && own.gid === as.gid)) return {};
  if (own.uid === 0) return { uid: as.uid, gid: as.gid };
  throw terminal(
    'PermissionDenied',
    `directory ${run.directory} is ${as.uid}:${as.gid}'s and plugset runs as ${own.uid}:${own.gid}; run it as that user or as root`,
  );
}

function exitCodeOfSpawnError(error: unknown, ids: { readonly uid?: number }): number | undefined {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT') return 127;
  // Under another user it is more likely the directory that may not be entered.
  return code === 'EACCES' && ids.uid === undefined ? 126 : undefined;
}

function classifySpawnError(error: unknown, { directory }: ChildRun): ReconcileError {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return waiting('WorkspaceNotFound', `directory ${directory} is gone`, RETRY_MISSING_MS, error);
    case 'EACCES':
    case 'EPERM':
      return terminal(
        'PermissionDenied',
        `no command may be run in directory ${directory} as the owner of its files`,
        error,
      );
    case 'E2BIG':
      return terminal('Internal', 'plugset built a command that is longer than this system takes', error);
    default:
      return transient('Unreachable', `no process could be started for directory ${directory}`, error);
  }
}

async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}

interface Watched {
  readonly stdout: CappedOutput;
  readonly stderr: CappedOutput;
  readonly deadline: Deadline;
  /** Aborts when the command has ended. */
  readonly over: AbortSignal;
}

/** Moves bytes both ways. Never resolves; rejects with the first reason for which the command has to be killed. */
function firstFailure(run: ChildRun, child: ChildProcessWithoutNullStreams, watched: Watched): Promise<never> {
  return new Promise((_resolve, reject) => {
    const collect = (output: CappedOutput) => (chunk: Buffer) => {
      try {
        output.push(chunk);
      } catch (error) {
        reject(error);
      }
    };
    child.stdout.on('data', collect(watched.stdout));
    child.stderr.on('data', collect(watched.stderr));
    if (run.options.stdin === undefined) child.stdin.end();
    else feedStdin(child.stdin, run.options.stdin, watched.over).catch(reject);
    watched.deadline.onEnd(() => reject(overdue(run, watched.deadline)));
  });
}

function overdue({ directory, options }: ChildRun, deadline: Deadline): ReconcileError {
  if (deadline.cause === 'aborted') return aborted(`a command in directory ${directory} was called off and killed`);
  return transient(
    'ExecTimeout',
    `a command in directory ${directory} did not end within ${options.deadlineMs} ms and was killed`,
  );
}

/** `close` comes after `exit`, once both outputs are read to their end. */
function exitOf(child: ChildProcessWithoutNullStreams): Promise<number> {
  return new Promise((resolve) => {
    child.once('close', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
  });
}

/** `false` when something of the group was still there after a while. */
async function killGroup(child: ChildProcessWithoutNullStreams, exit: Promise<number>, clock: Clock): Promise<boolean> {
  try {
    process.kill(-(child.pid ?? NaN), 'SIGKILL');
  } catch {
    // ESRCH: the whole group has ended. EPERM: nothing in it may be killed; the wait below finds out.
  }
  // A process that left the group would hold these open for ever.
  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
  const grace = new Deadline(clock, KILL_GRACE_MS, new AbortController().signal);
  try {
    await grace.race(exit);
    return true;
  } catch {
    return false;
  } finally {
    grace.clear();
  }
}
