import { lstat, realpath } from 'node:fs/promises';
import { normalize, sep } from 'node:path';

import { isFor, type AllowedRoot } from '../../domain/access.ts';
import { aborted, ReconcileError, terminal, transient, waiting } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { DirectoryWorkspaceTarget } from './directory-workspace-target.ts';
import { holdDirectory } from './held-directory.ts';

export interface DirectoryTargetOptions {
  /** Targets must lie below one of these (not be one of them), after every link is resolved. Empty: none is allowed. */
  readonly roots: readonly AllowedRoot[];
  /** PATH of the commands; their whole environment is this and `LANG=C`. */
  readonly path: string;
  readonly clock: Clock;
  /** For one question to the file system, which may be one that a network no longer carries. Default 10 s. */
  readonly lookTimeoutMs?: number;
}

const LOOK_TIMEOUT_MS = 10_000;
/** No event tells when a directory appears, so this is the wait itself. */
const RETRY_MISSING_MS = 10_000;
/** Where a root really lies is asked this often: its links are the operator's, and every pass needs to know. */
const ROOT_MEMORY_MS = 10_000;

/** Workspaces that are directories on the machine of the controller. */
export class DirectoryTargetProvider implements TargetProvider {
  readonly kind = 'directory';
  readonly #options: DirectoryTargetOptions;
  readonly #realRoots = new Map<string, { readonly path: string; readonly untilMs: number }>();

  constructor(options: DirectoryTargetOptions) {
    this.#options = options;
  }

  addresses(workspace: Workspace): readonly string[] {
    return [`directory:${pathOf(workspace)}`];
  }

  lane(): string {
    return 'directory';
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const path = pathOf(workspace);
    const deadline = new Deadline(this.#options.clock, this.#options.lookTimeoutMs ?? LOOK_TIMEOUT_MS, signal);
    try {
      const identity = await deadline.race(this.#inspect(path, workspace));
      return new DirectoryWorkspaceTarget({
        path,
        identity,
        searchPath: this.#options.path,
        clock: this.#options.clock,
      });
    } catch (error) {
      if (deadline.cause === 'aborted') throw aborted(`the look at directory ${path} was called off`, error);
      throw classifyLookError(error, path, workspace);
    } finally {
      deadline.clear();
    }
  }

  async close(): Promise<void> {}

  /**
   * Which directory it is. The order matters: nothing is looked at outside the roots, so that nobody learns what is there,
   * and where it lies is asked of the directory itself, since its path may lead elsewhere the next moment.
   */
  async #inspect(path: string, workspace: Workspace): Promise<string> {
    const written = this.#options.roots.filter((root) => isFor(workspace.key, root)).map((root) => root.path);
    const roots = await Promise.all(written.map((root) => this.#realRoot(root)));
    const notAllowed = () =>
      terminal(
        'TargetNotAllowed',
        `directory ${path} of workspace ${workspace.key} is not below a root that the operator allows its namespace; move it, or add one (--root, targets.directory.roots)`,
      );
    if (![...written.map(normalize), ...roots].some((root) => isBelow(path, root))) throw notAllowed();
    const held = await holdDirectory(path).catch(async (error: unknown) => {
      throw (await noDirectory(path, workspace)) ?? error;
    });
    await held.release();
    if (roots.some((root) => isBelow(held.realPath, root))) return held.identity;
    // Of what is remembered only a yes counts.
    this.#realRoots.clear();
    const anew = await Promise.all(written.map((root) => this.#realRoot(root)));
    if (anew.some((root) => isBelow(held.realPath, root))) return held.identity;
    throw notAllowed();
  }

  async #realRoot(root: string): Promise<string> {
    const nowMs = this.#options.clock.monotonic();
    const known = this.#realRoots.get(root);
    if (known !== undefined && nowMs < known.untilMs) return known.path;
    const path = await realpathOrSelf(root);
    this.#realRoots.set(root, { path, untilMs: nowMs + ROOT_MEMORY_MS });
    return path;
  }
}

function pathOf(workspace: Workspace): string {
  if (!('directory' in workspace.target)) {
    throw terminal('Internal', `workspace ${workspace.key} has no directory target and reached the directory provider`);
  }
  const path = normalize(workspace.target.directory.path);
  return path.length > 1 && path.endsWith(sep) ? path.slice(0, -1) : path;
}

function isBelow(path: string, root: string): boolean {
  const prefix = root.endsWith(sep) ? root : root + sep;
  return path.startsWith(prefix) && path.length > prefix.length;
}

/** What is there instead of a directory, if that is why it could not be opened: the codes for it differ between systems. */
async function noDirectory(path: string, workspace: Workspace): Promise<ReconcileError | undefined> {
  const stats = await lstat(path);
  if (stats.isDirectory()) return undefined;
  const what = stats.isSymbolicLink() ? 'a symbolic link' : 'not a directory';
  return terminal('UnsafePath', `${path} of workspace ${workspace.key} is ${what}; name the directory itself`);
}

/** A root that does not exist yet is compared as it was written. */
async function realpathOrSelf(root: string): Promise<string> {
  try {
    return await realpath(root);
  } catch {
    return normalize(root);
  }
}

function classifyLookError(error: unknown, path: string, workspace: Workspace): Error {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT') {
    return waiting(
      'WorkspaceNotFound',
      `directory ${path} of workspace ${workspace.key} does not exist`,
      RETRY_MISSING_MS,
      error,
    );
  }
  if (code === 'ENOTDIR' || code === 'ELOOP') {
    return terminal('UnsafePath', `a part of ${path} of workspace ${workspace.key} is not a directory`, error);
  }
  if (error instanceof ReconcileError) return error;
  const why = code ?? 'no answer in time';
  return transient(
    'Unreachable',
    `directory ${path} of workspace ${workspace.key} could not be looked at (${why})`,
    error,
  );
}
