import { watch, type FSWatcher } from 'chokidar';

import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';

/** Reading the directories that a watch begins with; on a disk that hangs, the timer of the store goes on without it. */
const READY_DEADLINE_MS = 10_000;

export interface DirectoryEventsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Something in one of the directories stirred. What, does not matter: everything is looked at again. */
  readonly onStir: () => void;
}

/**
 * Tells that something stirred in a set of directories, each watched by itself: chokidar following links would walk out of the
 * root, and it never learns that a directory it watched was deleted and made anew. So who uses this says after every
 * look which directories there are now. A lost event is no fault: it only shortens the wait for the next look.
 */
export class DirectoryEvents {
  readonly #options: DirectoryEventsOptions;
  #watcher: FSWatcher | undefined;
  #following = '';

  constructor(options: DirectoryEventsOptions) {
    this.#options = options;
  }

  /**
   * Watches these directories from now on. `identity` differs when one of the same name is another one. Answers
   * whether anything changed: then events may have been missed meanwhile, and it takes one more look.
   */
  async follow(directories: readonly string[], identity: string, signal: AbortSignal): Promise<boolean> {
    const wanted = JSON.stringify([identity, ...directories]);
    if (wanted === this.#following) return false;
    await this.close();
    this.#following = wanted;
    const { onStir, logger } = this.#options;
    const watcher = watch([...directories], { depth: 0, followSymlinks: false, ignoreInitial: true });
    this.#watcher = watcher;
    watcher.on('all', onStir);
    // Its own events leave out the second change of a file within 50 ms, and the second removal within 100: a look in
    // between would see the first and never hear of the second. The raw ones leave out nothing.
    watcher.on('raw', onStir);
    watcher.on('error', (error) => {
      logger.warn('watching for file events failed; changes are found by looking now and then', { error });
    });
    await this.#ready(watcher, signal);
    return true;
  }

  async close(): Promise<void> {
    const watcher = this.#watcher;
    this.#watcher = undefined;
    this.#following = '';
    await watcher?.close();
  }

  #ready(watcher: FSWatcher, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = (): void => {
        timer.cancel();
        signal.removeEventListener('abort', finish);
        resolve();
      };
      const timer = this.#options.clock.setTimer(READY_DEADLINE_MS, finish);
      signal.addEventListener('abort', finish, { once: true });
      watcher.once('ready', finish);
      if (signal.aborted) finish();
    });
  }
}
