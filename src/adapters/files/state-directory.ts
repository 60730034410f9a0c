import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

import { codeOf } from '../../domain/error-code.ts';
import { transient } from '../../domain/errors.ts';
import { isName, splitWorkspaceKey, workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { untilEither } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import { unavailable } from './node-error.ts';
import { SocketLock } from './socket-lock.ts';
import { PRIVATE_DIRECTORY, writePrivately } from './write-atomically.ts';

/** How long a command waits for another process to end a write, which takes milliseconds. */
const LOCK_DEADLINE_MS = 10_000;

/**
 * The directory in which plugset keeps what a directory of YAML has no place for. Small JSON files, written whole,
 * made to be read with `cat`:
 *
 *   workspaces/NAMESPACE/NAME.json   generation, when it was declared, and the last good declaration
 *   status/NAMESPACE/NAME.json       what `plugset status` shows
 *   requests/NAMESPACE/NAME.json     what people asked for (`plugset reconcile`, `plugset approve`)
 *   documents/KEY.json               what the controller remembers (ControllerState)
 *   fence.json                       newest turn that has written here
 *   leader.json, leader.*.sock       who acts, and the socket that proves that he lives
 *   lock.json, lock.*.sock           the same for the moment of a write
 *
 * All of it is its owner's alone (0700, 0600): declarations may hold what is nobody else's business.
 */
export class StateDirectory {
  readonly path: string;
  readonly #clock: Clock;
  readonly #lock: SocketLock;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(path: string, clock: Clock) {
    this.path = path;
    this.#clock = clock;
    this.#lock = new SocketLock(path, 'lock');
  }

  /** `undefined` when there is no such file. */
  async read(name: string): Promise<unknown> {
    const path = join(this.path, name);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw unavailable(`cannot read ${path}`, error);
    }
    try {
      return JSON.parse(text);
    } catch (error) {
      throw transient('StoreUnavailable', `${path} is no JSON; put it right or remove it`, error);
    }
  }

  async write(name: string, value: unknown, isDurable = false): Promise<void> {
    const path = join(this.path, name);
    try {
      await writePrivately(path, `${JSON.stringify(value, undefined, 2)}\n`, isDurable);
    } catch (error) {
      throw unavailable(`cannot write ${path}`, error);
    }
  }

  async remove(name: string): Promise<void> {
    const path = join(this.path, name);
    try {
      await rm(path, { force: true });
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw unavailable(`cannot remove ${path}`, error);
    }
  }

  /** The real directories that hold the files of `folder`, made if need be, to be watched. */
  async directories(folder: string): Promise<readonly string[]> {
    const root = join(this.path, folder);
    await mkdir(root, { recursive: true, mode: PRIVATE_DIRECTORY });
    return [root, ...(await this.#entries(root)).filter(isName).map((namespace) => join(root, namespace))];
  }

  /** Paths, relative to `folder`, of everything below it. */
  async filesBelow(folder: string): Promise<readonly string[]> {
    const path = join(this.path, folder);
    try {
      return await readdir(path, { recursive: true });
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw unavailable(`cannot read ${path}`, error);
    }
  }

  /** Keys that have a file in `folder`. */
  async keys(folder: string): Promise<readonly WorkspaceKey[]> {
    const root = join(this.path, folder);
    const namespaces = (await this.#entries(root)).filter(isName);
    const keys = await Promise.all(
      namespaces.map(async (namespace) =>
        (await this.#entries(join(root, namespace)))
          .filter((entry) => entry.endsWith('.json') && isName(entry.slice(0, -'.json'.length)))
          .map((entry) => workspaceKey(namespace, entry.slice(0, -'.json'.length))),
      ),
    );
    return keys.flat();
  }

  /**
   * Runs `work` while no other process is inside, however many stores and processes there are. A holder that dies
   * leaves it free; one that is stopped makes this fail as `StoreUnavailable` after ten seconds.
   */
  async exclusively<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const before = this.#turn;
    const run = (async (): Promise<T> => {
      await before;
      signal.throwIfAborted();
      const lock = await this.#acquire(signal);
      try {
        return await work();
      } finally {
        await lock.release();
      }
    })();
    this.#turn = run.catch(() => undefined);
    return run;
  }

  async #acquire(signal: AbortSignal): Promise<{ release(): Promise<void> }> {
    const deadline = this.#clock.monotonic() + LOCK_DEADLINE_MS;
    for (;;) {
      const attempt = await this.#attempt();
      if (attempt.kind === 'acquired') return attempt.lock;
      const remainingMs = deadline - this.#clock.monotonic();
      const pause = new AbortController();
      try {
        if (remainingMs <= 0) {
          const pid = String(attempt.document?.['pid'] ?? 'unknown');
          throw transient(
            'StoreUnavailable',
            `process ${pid} holds the lock of ${this.path} and does not let go; is it stopped?`,
          );
        }
        // Free as soon as the other lets go; the short sleep is for whoever comes third.
        const asleep = untilEither(pause.signal, signal, (over) => this.#clock.sleep(Math.min(remainingMs, 200), over));
        await Promise.race([attempt.released, asleep]);
        signal.throwIfAborted();
      } finally {
        pause.abort();
        attempt.stopWaiting();
      }
    }
  }

  async #attempt(): ReturnType<SocketLock['tryAcquire']> {
    try {
      return await this.#lock.tryAcquire(() => ({ pid: process.pid }));
    } catch (error) {
      throw unavailable(`cannot lock ${this.path}`, error);
    }
  }

  async #entries(path: string): Promise<readonly string[]> {
    try {
      return await readdir(path);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw unavailable(`cannot read ${path}`, error);
    }
  }
}

/** Where in `folder` the file of a workspace is. */
export function fileOf(folder: string, key: WorkspaceKey): string {
  const { namespace, name } = splitWorkspaceKey(key);
  return `${folder}/${namespace}/${name}.json`;
}
