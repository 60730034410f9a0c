import { lstat } from 'node:fs/promises';
import { join, resolve } from 'node:path';

import { PLUGINS_DIRECTORY, RECEIPTS_DIRECTORY } from '../../domain/layout.ts';
import { aborted, type ReconcileError, terminal, transient, waiting } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import { refuseNul } from '../../ports/run-streams.ts';
import type { ProbeResult, RunOptions, RunResult, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { type HeldDirectory, holdDirectory } from './held-directory.ts';
import { runChild } from './run-child.ts';

export interface DirectoryWorkspaceTargetOptions {
  readonly path: string;
  readonly identity: string;
  readonly searchPath: string;
  readonly clock: Clock;
}

/** What an apply changes by renaming is seen in these, edits inside a tree are not; the deep look is for those. */
const PROBED = [PLUGINS_DIRECTORY, RECEIPTS_DIRECTORY] as const;
const PROBE_TIMEOUT_MS = 10_000;
const RETRY_MISSING_MS = 10_000;

export class DirectoryWorkspaceTarget implements WorkspaceTarget {
  readonly identity: string;
  readonly description: string;
  readonly #options: DirectoryWorkspaceTargetOptions;

  constructor(options: DirectoryWorkspaceTargetOptions) {
    this.identity = options.identity;
    this.description = `directory ${options.path}`;
    this.#options = options;
  }

  async run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    refuseNul(argv);
    const { path, searchPath, clock } = this.#options;
    const held = await this.#hold(options);
    try {
      return await runChild({ argv, directory: path, entrance: held.entrance, searchPath, options, clock });
    } finally {
      await held.release();
    }
  }

  /** The directory that was located, and no other that has its path by now. */
  async #hold(options: RunOptions): Promise<HeldDirectory> {
    const { path, identity, clock } = this.#options;
    const deadline = new Deadline(clock, options.deadlineMs, options.signal);
    const holding = holdDirectory(path);
    let held: HeldDirectory;
    try {
      held = await deadline.race(holding);
    } catch (error) {
      // A dead network disk may give it to us yet.
      holding.then((late) => late.release()).catch(() => undefined);
      if (deadline.cause === 'aborted') throw aborted(`nothing was run in directory ${path}: called off before`, error);
      throw classifyHoldError(error, path);
    } finally {
      deadline.clear();
    }
    if (held.identity === identity) return held;
    await held.release();
    throw transient('TargetMoved', `${path} has become another directory since it was located; it is located anew`);
  }

  async probe(configDir: string, signal: AbortSignal): Promise<ProbeResult> {
    const root = resolve(this.#options.path, configDir);
    const deadline = new Deadline(this.#options.clock, PROBE_TIMEOUT_MS, signal);
    try {
      const rootStamp = stamp(root);
      const entries = PROBED.map((name) => stampOrAbsent(join(root, name)));
      return { kind: 'token', token: (await deadline.race(Promise.all([rootStamp, ...entries]))).join(' ') };
    } catch (cause) {
      return { kind: 'unknown', cause };
    } finally {
      deadline.clear();
    }
  }
}

async function stamp(path: string): Promise<string> {
  const stats = await lstat(path, { bigint: true });
  return [stats.dev, stats.ino, stats.mode, stats.uid, stats.gid, stats.mtimeNs, stats.ctimeNs].join(':');
}

/** Below a directory that was seen, and on this machine, ENOENT does prove absence. */
async function stampOrAbsent(path: string): Promise<string> {
  try {
    return await stamp(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 'absent';
    throw error;
  }
}

function classifyHoldError(error: unknown, path: string): ReconcileError {
  const code = (error as NodeJS.ErrnoException).code ?? 'no answer in time';
  switch (code) {
    case 'ENOENT':
      return waiting('WorkspaceNotFound', `directory ${path} is gone`, RETRY_MISSING_MS, error);
    case 'ENOTDIR':
    case 'ELOOP':
      return transient('TargetMoved', `${path} is no directory any more; it is located anew`, error);
    case 'EACCES':
      return terminal('PermissionDenied', `directory ${path} may not be entered`, error);
    default:
      return transient('Unreachable', `directory ${path} could not be opened (${code})`, error);
  }
}
