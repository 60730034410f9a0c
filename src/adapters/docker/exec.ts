import type { Duplex } from 'node:stream';

import type Docker from 'dockerode';

import { codeOf } from '../../domain/error-code.ts';
import { ReconcileError } from '../../domain/errors.ts';
import type { Deadline } from '../../ports/deadline.ts';
import { CappedOutput, feedStdin } from '../../ports/run-streams.ts';
import { Demuxer } from './demux.ts';
import { NotConnected } from './engine-agents.ts';
import { type DockerEngine, statusOf } from './engine.ts';

export interface ExecOptions {
  readonly user: string;
  /** Besides {@link ENVIRONMENT}. */
  readonly env: readonly string[];
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  readonly maxOutputBytes?: number | undefined;
}

/** How far an exec got. `refused` and `unsent` mean for certain that nothing was started. */
export type ExecEnd =
  | { readonly kind: 'exited'; readonly code: number; readonly stdout: Buffer; readonly stderr: Buffer }
  | { readonly kind: 'refused'; readonly status: number; readonly error: unknown }
  | { readonly kind: 'unsent'; readonly error: unknown }
  /** It may run. `ours`: we ended it (deadline, abort, output cap, broken stdin) and not the transport. */
  | { readonly kind: 'lost'; readonly error: unknown; readonly ours: boolean; readonly exec: Docker.Exec };

/**
 * The image's PATH may begin with a directory of the agent, and a look runs as root: with it, the agent could put its own
 * program in the place of `sh`. The same goes for the loader's variables.
 */
const ENVIRONMENT = [
  'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  'LD_PRELOAD=',
  'LD_LIBRARY_PATH=',
  'LC_ALL=C',
] as const;

/** The engine closes the stream when both outputs are at their end, and knows the exit code some milliseconds later. */
const EXIT_CODE_GRACE_MS = 2_000;
const LONGEST_POLL_MS = 100;

/** Before one of these the request has not left this machine. */
const CONNECT_ERRORS = new Set([
  'ECONNREFUSED',
  'ENOENT',
  'EACCES',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

/**
 * One command in one container: create, start, attend, ask for the exit code. The hijacked stream is a bare socket
 * (`hijack: true`): docker-modem's other way to send stdin closes the whole connection at its end, and the output
 * that comes after that is lost.
 */
export async function execute(
  engine: DockerEngine,
  containerId: string,
  argv: readonly string[],
  options: ExecOptions,
  deadline: Deadline,
): Promise<ExecEnd> {
  let exec: Docker.Exec;
  try {
    exec = await engine.ask('exec_create', deadline.signal, (docker, abortSignal) =>
      docker.getContainer(containerId).exec({ ...createOptions(argv, options), abortSignal }),
    );
  } catch (error) {
    const status = statusOf(error);
    return status === undefined ? { kind: 'unsent', error } : { kind: 'refused', status, error };
  }
  return startAndAttend(engine, exec, options, deadline);
}

async function startAndAttend(
  engine: DockerEngine,
  exec: Docker.Exec,
  options: ExecOptions,
  deadline: Deadline,
): Promise<ExecEnd> {
  let socket: Duplex;
  try {
    socket = await engine.ask('exec_start', deadline.signal, (_docker, abortSignal) =>
      exec.start({ hijack: true, stdin: true, abortSignal }),
    );
  } catch (error) {
    const status = statusOf(error);
    if (status !== undefined) return { kind: 'refused', status, error };
    if (error instanceof NotConnected || CONNECT_ERRORS.has(codeOf(error) ?? '')) return { kind: 'unsent', error };
    return { kind: 'lost', error, ours: deadline.cause !== undefined, exec };
  }
  const output = await attend(socket, options, deadline);
  if ('error' in output) return { kind: 'lost', ...output, exec };
  try {
    const exit = await exitOf(engine, exec, deadline);
    if (exit !== undefined) return { kind: 'exited', code: exit.code, ...outputOf(exit, output) };
    return { kind: 'lost', error: new Error('the stream ended and the command runs on'), ours: false, exec };
  } catch (error) {
    return { kind: 'lost', error, ours: deadline.cause !== undefined, exec };
  }
}

function createOptions(argv: readonly string[], options: ExecOptions): Docker.ExecCreateOptions {
  return {
    Cmd: [...argv],
    User: options.user,
    Env: [...ENVIRONMENT, ...options.env],
    // The image's own may be gone, or belong to the agent.
    WorkingDir: '/',
    AttachStdin: options.stdin !== undefined,
    AttachStdout: true,
    AttachStderr: true,
    Tty: false,
  };
}

interface Printed {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

interface Failure {
  readonly error: unknown;
  readonly ours: boolean;
}

/** Moves bytes both ways until the engine closes its side, and then closes ours. */
async function attend(socket: Duplex, options: ExecOptions, deadline: Deadline): Promise<Printed | Failure> {
  const stdout = new CappedOutput(options.maxOutputBytes);
  const stderr = new CappedOutput(options.maxOutputBytes);
  const demuxer = new Demuxer((stream, bytes) => (stream === 'stdout' ? stdout : stderr).push(bytes));
  const over = new AbortController();
  const failure = await new Promise<Failure | undefined>((resolve) => {
    const lost = (ours: boolean) => (error: unknown) => resolve({ error, ours });
    socket.on('data', (chunk: Buffer) => {
      try {
        demuxer.push(chunk);
      } catch (error) {
        resolve({ error, ours: error instanceof ReconcileError });
      }
    });
    socket.on('end', () =>
      demuxer.isWhole ? resolve(undefined) : lost(false)(new Error('the stream ended within a frame')),
    );
    socket.on('error', lost(false));
    // After `end` and `error` this changes nothing: the first word stands.
    socket.on('close', () => lost(false)(new Error('the connection was closed')));
    deadline.onEnd(() => lost(true)(deadline.signal.reason));
    if (options.stdin === undefined) socket.end();
    else feedStdin(socket, options.stdin, over.signal).catch(lost(true));
  });
  over.abort();
  // The engine stops reading once the command has ended, so stdin that is left over would keep the socket open for ever.
  socket.destroy();
  return failure ?? { stdout: stdout.toBuffer(), stderr: stderr.toBuffer() };
}

interface Exit {
  readonly code: number;
  /** 0: no process was ever started. */
  readonly pid: number;
}

/** Of a program that it cannot start the engine says so on stdout, in the place of the program. */
function outputOf({ code, pid }: Exit, printed: Printed): Printed {
  if (pid !== 0 || (code !== 126 && code !== 127)) return printed;
  return { stdout: Buffer.alloc(0), stderr: Buffer.concat([printed.stderr, printed.stdout]) };
}

/**
 * `undefined` when the command still runs some time after its stream ended: then it was not the command that ended the
 * stream but somebody between the engine and us. (If it ends within that time, the two cannot be told apart; that is
 * why a script whose output matters prints an end marker.)
 */
async function exitOf(engine: DockerEngine, exec: Docker.Exec, deadline: Deadline): Promise<Exit | undefined> {
  const { clock } = engine;
  const until = clock.monotonic() + EXIT_CODE_GRACE_MS;
  for (let pauseMs = 2; ; pauseMs = Math.min(pauseMs * 2, LONGEST_POLL_MS)) {
    const info = await engine.ask('exec_inspect', deadline.signal, (_docker, abortSignal) =>
      exec.inspect({ abortSignal }),
    );
    if (!info.Running) return info.ExitCode === null ? undefined : { code: info.ExitCode, pid: info.Pid };
    if (clock.monotonic() > until) return undefined;
    await clock.sleep(pauseMs, deadline.signal);
  }
}
