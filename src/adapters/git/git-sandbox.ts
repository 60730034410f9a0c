import { lstat, mkdir, open, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { aborted, transient, type ReconcileError } from '../../domain/errors.ts';
import { rejected } from '../../domain/archive.ts';
import type { Timer } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { cacheFailure, type ScratchDir } from '../../ports/scratch-space.ts';
import type { GitEndpoint } from './address.ts';
import { bundleWith, certificateProblem } from './certificates.ts';
import { startChild, type Exit, type RunningChild } from './child-process.ts';
import { credentialLines, secretsOf } from './credentials.ts';
import {
  environment,
  gitConfig,
  identityFor,
  prepareSsh,
  type SandboxOptions,
  type SandboxTask,
} from './git-environment.ts';
import { scrub } from './scrub.ts';

export interface GitResult extends Exit {
  readonly stdout: string;
}

const DISK_POLL_MS = 250;
const MAX_STDOUT_BYTES = 4 * 1024 * 1024;

/** Of a trace; what says how it ended is at its end, and how long it is is the server's doing. */
const TRACE_BYTES = 256 * 1024;

/** What git and ssh write on the side: HTTP status lines, git's own events, the exit code of ssh. */
const TRACES = ['curl-trace', 'git-trace', 'ssh-exit'] as const;

/**
 * A home, a configuration, an environment and a disk for a few git commands about one repository, made for the occasion
 * and deleted after it. Nothing of this process's environment gets in; git can ask nobody, run no hook and speak one
 * protocol only. Deadline, abort and a full scratch disk all end every process in it at once.
 */
export class GitSandbox {
  readonly #options: SandboxOptions;
  readonly #task: SandboxTask;
  readonly #dir: ScratchDir;
  readonly #stop = new AbortController();
  readonly #running = new Set<Promise<Exit>>();
  readonly #env: Readonly<Record<string, string>>;
  readonly #secrets: readonly string[];
  readonly #deadline: Deadline;
  #diskTimer: Timer | undefined;
  #stoppedBy: ReconcileError | undefined;

  private constructor(options: SandboxOptions, task: SandboxTask, dir: ScratchDir, credentials: readonly string[]) {
    this.#options = options;
    this.#task = task;
    this.#dir = dir;
    this.#secrets = secretsOf(credentials);
    this.#env = environment(options, task, dir.path);
    this.#deadline = new Deadline(options.clock, task.deadlineMs, task.signal);
    this.#deadline.onEnd(() => this.#end(overdue(task, this.#deadline)));
    this.#watchDisk();
  }

  static async create(options: SandboxOptions, task: SandboxTask): Promise<GitSandbox> {
    const credentials = await credentialLines(options.credentialFiles, task.endpoint);
    const dir = await options.scratch.create();
    try {
      const home = join(dir.path, 'home');
      await mkdir(home, { mode: 0o700 });
      const bundle =
        options.caFile !== undefined && task.endpoint.protocol === 'https' ? join(home, 'ca.pem') : undefined;
      if (options.caFile !== undefined && bundle !== undefined)
        await writeFile(bundle, await bundleWith(options.caFile));
      await writeFile(join(home, 'gitconfig'), gitConfig(task, bundle), { mode: 0o600 });
      // The copy is git's to edit: it erases what a server refuses, and the operator's file stays as it is.
      await writeFile(join(home, '.git-credentials'), credentials.map((line) => `${line}\n`).join(''), { mode: 0o600 });
      if (task.endpoint.protocol === 'ssh') await prepareSsh(options.ssh, task, dir.path);
      return new GitSandbox(options, task, dir, credentials);
    } catch (error) {
      await dir.remove();
      throw cacheFailure(error, dirname(dir.path));
    }
  }

  /** Whether a credential is at hand for this repository. */
  get hasCredential(): boolean {
    const { endpoint } = this.#task;
    if (endpoint.protocol === 'ssh') return identityFor(this.#options.ssh, endpoint.host) !== undefined;
    return this.#secrets.length > 0;
  }

  /** The code of what is wrong with the certificate of the host, if that is what is wrong. */
  async certificateProblem(): Promise<string | undefined> {
    const { caFile, clock } = this.#options;
    const { addresses, endpoint } = this.#task;
    const [address] = addresses;
    if (endpoint.protocol !== 'https' || address === undefined) return undefined;
    const { host, port } = endpoint;
    return certificateProblem({ host, port, address, caFile, clock, signal: this.#stop.signal });
  }

  /** Why everything was ended before its time, if it was. */
  get stoppedBy(): ReconcileError | undefined {
    return this.#stoppedBy;
  }

  /** Runs a git command to its end. Throws only why the sandbox was stopped. */
  async run(...args: readonly string[]): Promise<GitResult> {
    await Promise.all(TRACES.map((name) => rm(join(this.#dir.path, name), { force: true })));
    const child = this.start(...args);
    child.stdin.end();
    const chunks: Buffer[] = [];
    let bytes = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      bytes += chunk.byteLength;
      if (bytes > MAX_STDOUT_BYTES) this.#end(rejected(`${hostOf(this.#task.endpoint)} lists more than can be read`));
      else chunks.push(chunk);
    });
    const exit = await child.exit;
    // The kernel may have been faster than the watch: a file at its limit kills whoever writes to it.
    if (exit.code !== 0) await this.#checkDisk();
    this.throwIfStopped();
    return { ...exit, stdout: Buffer.concat(chunks).toString('utf8') };
  }

  /** Starts a git command whose output is read as it comes. */
  start(...args: readonly string[]): RunningChild {
    const { clock, maxMemoryBytes, maxRepositoryBytes } = this.#options;
    const child = startChild({
      argv: ['git', ...args],
      env: this.#env,
      cwd: this.#dir.path,
      limits: { memoryBytes: maxMemoryBytes, fileBytes: maxRepositoryBytes },
      clock,
      signal: this.#stop.signal,
    });
    this.#running.add(child.exit);
    return child;
  }

  throwIfStopped(): void {
    if (this.#stoppedBy !== undefined) throw this.#stoppedBy;
  }

  /** A text of git's or the server's, fit to be shown. */
  scrub(text: string): string {
    return scrub(text, this.#secrets);
  }

  /** What the last command left on the side; empty when it left nothing. */
  async trace(name: (typeof TRACES)[number]): Promise<string> {
    return endOf(join(this.#dir.path, name)).catch(() => '');
  }

  /** Ends what still runs and deletes everything. */
  async close(): Promise<void> {
    this.#deadline.clear();
    this.#stop.abort();
    this.#diskTimer?.cancel();
    await Promise.all(this.#running);
    await this.#dir.remove();
  }

  #end(reason: ReconcileError): void {
    this.#stoppedBy ??= reason;
    this.#stop.abort();
  }

  /** The kernel caps each file, this caps their sum. */
  #watchDisk(): void {
    this.#diskTimer = this.#options.clock.setTimer(DISK_POLL_MS, () => {
      this.#checkDisk().then(
        () => this.#stop.signal.aborted || this.#watchDisk(),
        () => undefined,
      );
    });
  }

  async #checkDisk(): Promise<void> {
    const { maxRepositoryBytes } = this.#options;
    if ((await bytesIn(this.#dir.path)) <= maxRepositoryBytes) return;
    this.#end(
      rejected(`${hostOf(this.#task.endpoint)} sends more than ${maxRepositoryBytes} bytes for this repository`),
    );
  }
}

function overdue({ deadlineMs, endpoint, signal }: SandboxTask, { cause }: Deadline): ReconcileError {
  if (cause === 'aborted') return aborted('git was ended with the work it was for', signal.reason);
  return transient('SourceUnavailable', `${hostOf(endpoint)} did not answer within ${deadlineMs / 1000} s`);
}

export function hostOf(endpoint: GitEndpoint): string {
  return endpoint.protocol === 'file' ? endpoint.path : endpoint.host;
}

async function endOf(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read(
      Buffer.alloc(TRACE_BYTES),
      0,
      TRACE_BYTES,
      Math.max(0, size - TRACE_BYTES),
    );
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** As the disk counts: a hundred thousand refs of 41 bytes fill a block each. */
async function bytesIn(dir: string): Promise<number> {
  let sum = 0;
  for (const name of await readdir(dir, { recursive: true })) {
    // Git deletes its temporary files while we look.
    sum += await lstat(join(dir, name)).then(
      (stats) => stats.blocks * 512,
      () => 0,
    );
  }
  return sum;
}
