import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Readable, Writable } from 'node:stream';

import { transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';

export interface ChildLimits {
  /** Address space of each process, so that a server cannot make git eat the machine's memory. */
  readonly memoryBytes: number;
  /** Size of each file it writes: the kernel's own stop for a pack that never ends. */
  readonly fileBytes: number;
}

export interface ChildOptions {
  readonly argv: readonly string[];
  /** The whole environment of the child; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly limits: ChildLimits;
  readonly clock: Clock;
  /** Ends the child and everything it started, at once. */
  readonly signal: AbortSignal;
}

export interface Exit {
  /** 128 + signal number stands for a death by signal, as in a shell. */
  readonly code: number;
  /** Its first kilobytes. */
  readonly stderr: string;
}

export interface RunningChild {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Never rejects. */
  readonly exit: Promise<Exit>;
}

/** Constant; what varies travels as arguments. Where a limit is unknown to the shell the others still hold. */
const LIMITED = 'ulimit -c 0; ulimit -v "$1" 2>/dev/null; ulimit -f "$2" 2>/dev/null; shift 2; exec "$@"';

const STDERR_BYTES = 8 * 1024;

/** Grandchildren may hold the pipes for this long after their parent; then they are ended. */
const LINGER_MS = 2_000;

/**
 * Starts a program in a process group of its own, under limits, with an environment built from nothing. Throws
 * `SourceUnavailable` (transient) when this process is out of file descriptors.
 */
export function startChild(options: ChildOptions): RunningChild {
  const { argv, clock, cwd, env, limits, signal } = options;
  const units = [Math.floor(limits.memoryBytes / 1024), Math.floor(limits.fileBytes / 512)].map(String);
  const child = spawn('/bin/sh', ['-c', LIMITED, 'sh', ...units, ...argv], { cwd, env, detached: true, stdio: 'pipe' });
  if (!hasStreams(child)) {
    // An event tells it once more, and would end this process if nobody listened.
    child.on('error', () => undefined);
    throw transient('SourceUnavailable', 'git could not be started: this process has no file descriptor left');
  }
  const endGroup = (): void => killGroup(child.pid);
  const endAll = (): void => {
    endGroup();
    // What nobody reads any more would keep the pipe, and with it the end of the child, open for ever.
    child.stdout.destroy();
  };
  const stderr: Buffer[] = [];
  let stderrBytes = 0;
  child.stderr.on('data', (chunk: Buffer) => {
    if (stderrBytes < STDERR_BYTES) stderr.push(chunk.subarray(0, STDERR_BYTES - stderrBytes));
    stderrBytes += chunk.byteLength;
  });
  // A child that ends before it has read its input is no fault of ours; its exit says what happened.
  child.stdin.on('error', () => undefined);
  const exit = new Promise<Exit>((resolve) => {
    // It could not be started, and no other event will come.
    child.once('error', (error) => resolve({ code: 127, stderr: error.message }));
    child.once('exit', () => {
      const timer = clock.setTimer(LINGER_MS, endGroup);
      child.once('close', () => timer.cancel());
    });
    child.once('close', (code, death) => {
      signal.removeEventListener('abort', endAll);
      resolve({
        code: code ?? 128 + constants.signals[death ?? 'SIGKILL'],
        stderr: Buffer.concat(stderr).toString('utf8'),
      });
    });
  });
  signal.addEventListener('abort', endAll, { once: true });
  if (signal.aborted) endAll();
  return { stdin: child.stdin, stdout: child.stdout, exit };
}

/** Out of descriptors, Node makes none of the streams that its types promise. */
function hasStreams(child: Partial<ChildProcess>): boolean {
  return child.stdin !== undefined;
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}
