import { classifyError } from '../../domain/errors.ts';
import { untilEither } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import { DirectoryEvents } from './directory-events.ts';
import { SnapshotReader, type Snapshot } from './read-snapshot.ts';
import { identityOf } from './scan-directory.ts';

export interface SnapshotFollowerOptions {
  readonly root: string;
  /** The option or variable that named it, for messages. */
  readonly origin: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** From an event to the look. */
  readonly debounceMs: number;
  /** How often the root is checked for being another one, and a failed look tried again. */
  readonly pollMs: number;
  /** How often everything is looked at without an event, give or take a fifth. */
  readonly rescanMs: number;
  /** Directories besides the snapshot's whose events ask for a look. */
  readonly otherDirectories: () => Promise<readonly string[]>;
  /**
   * Called with every complete snapshot before it counts; what it throws fails the look. What it answers is called once
   * the snapshot counts.
   */
  readonly onSnapshot: (look: Look) => Promise<() => void>;
  /** Something is waiting for time to pass, and the next look is due at the next poll. */
  readonly isLookDue: () => boolean;
}

export interface Look {
  readonly snapshot: Snapshot;
  /** The last one that counted. */
  readonly previous: Snapshot | undefined;
  /** The looks before this one failed, so anything may have happened. */
  readonly isRecovery: boolean;
  readonly startedAtMs: number;
  /** Aborts when the follower closes. */
  readonly signal: AbortSignal;
}

/** Keeps the newest complete snapshot of a directory: on demand, and from `follow` on by events, by polling and by time. */
export class SnapshotFollower {
  readonly #options: SnapshotFollowerOptions;
  readonly #reader: SnapshotReader;
  readonly #events: DirectoryEvents;
  readonly #closing = new AbortController();

  #snapshot: Snapshot | undefined;
  #failure: string | undefined;
  /** The failure that was logged last, until a look succeeds. */
  #said: string | undefined;
  #current: Promise<unknown> = Promise.resolve();
  #next: Promise<Snapshot> | undefined;
  #following: Promise<void> | undefined;
  #loop: Promise<void> | undefined;
  #hasStirred = false;
  #wake: () => void = () => {};

  constructor(options: SnapshotFollowerOptions) {
    this.#options = options;
    this.#reader = new SnapshotReader({ path: options.root, origin: options.origin });
    const { clock, logger } = options;
    this.#events = new DirectoryEvents({ clock, logger, onStir: () => this.stir() });
  }

  /** The last complete one; a later look may have failed. */
  get snapshot(): Snapshot | undefined {
    return this.#snapshot;
  }

  /** Why the last look failed; `undefined` when it did not. */
  get failure(): string | undefined {
    return this.#failure;
  }

  get isFollowing(): boolean {
    return this.#loop !== undefined;
  }

  /** A look that begins after this call; calls that wait for the same look share it. Throws `StoreUnavailable`. */
  look(): Promise<Snapshot> {
    if (this.#next !== undefined) return this.#next;
    const next = this.#current.then(() => {
      this.#next = undefined;
      return this.#look();
    });
    this.#next = next;
    this.#current = next.catch(() => undefined);
    return next;
  }

  /** Resolves when no change from now on can be missed for longer than a poll; a directory that cannot be read now is tried again. */
  follow(): Promise<void> {
    this.#following ??= (async () => {
      await this.look().catch(() => undefined);
      await this.#followDirectories();
      await this.look().catch(() => undefined);
      if (!this.#closing.signal.aborted) this.#loop = this.#run();
    })();
    return this.#following;
  }

  /** Whether the directory still is what the snapshot says. */
  isCurrent(snapshot: Snapshot): Promise<boolean> {
    return this.#reader.isCurrent(snapshot);
  }

  /** Asks for a look soon. */
  stir(): void {
    this.#hasStirred = true;
    this.#wake();
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the store is closed'));
    this.#wake();
    await this.#following;
    await this.#loop;
    await this.#events.close();
    await this.#current;
  }

  async #look(): Promise<Snapshot> {
    const { clock, logger, root, onSnapshot } = this.#options;
    const { signal } = this.#closing;
    const startedAtMs = clock.now();
    const isRecovery = this.#failure !== undefined;
    try {
      const snapshot = await this.#reader.read(signal);
      const announce = await onSnapshot({ snapshot, previous: this.#snapshot, isRecovery, startedAtMs, signal });
      this.#snapshot = snapshot;
      this.#failure = undefined;
      this.#said = undefined;
      if (isRecovery) logger.info('the directory of workspaces can be read again', { directory: root });
      announce();
      return snapshot;
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
      throw error;
    }
  }

  /** Says so once, and only where the last good state stands for it: else what is thrown says it. */
  #fail(error: unknown): void {
    const { message } = classifyError(error);
    this.#failure = message;
    const isThrown = this.#snapshot === undefined && this.#following === undefined;
    if (isThrown || message === this.#said) return;
    const stands = this.#snapshot === undefined ? '' : '; the last good state stands';
    this.#options.logger.error(`${message}${stands}`, { directory: this.#options.root, error });
    this.#said = message;
  }

  async #run(): Promise<void> {
    const { clock, debounceMs, pollMs } = this.#options;
    const { signal } = this.#closing;
    let rescanAt = this.#nextRescan();
    while (!signal.aborted) {
      await this.#pause(pollMs);
      if (this.#hasStirred) await clock.sleep(debounceMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      const isDue = this.#hasStirred || clock.monotonic() >= rescanAt || (await this.#isOutdated());
      if (!isDue) continue;
      this.#hasStirred = false;
      await this.look().catch(() => undefined);
      await this.#followDirectories();
      rescanAt = this.#nextRescan();
    }
  }

  async #isOutdated(): Promise<boolean> {
    if (this.#failure !== undefined || this.#options.isLookDue()) return true;
    const identity = await identityOf(this.#options.root).catch(() => undefined);
    return identity !== this.#snapshot?.scan.identity;
  }

  /** Never throws: without events, polling and the rescan remain. */
  async #followDirectories(): Promise<void> {
    const { scan } = this.#snapshot ?? {};
    if (scan === undefined || this.#closing.signal.aborted) return;
    const others = await this.#options.otherDirectories().catch(() => []);
    const isNew = await this.#events.follow([...scan.directories, ...others], scan.identity, this.#closing.signal);
    if (isNew) this.#hasStirred = true;
  }

  #nextRescan(): number {
    const { clock, rescanMs } = this.#options;
    return clock.monotonic() + rescanMs * (0.8 + 0.4 * clock.random());
  }

  /** Until something stirs, at most this long. */
  async #pause(ms: number): Promise<void> {
    if (this.#hasStirred) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    const { clock } = this.#options;
    await untilEither(woken.signal, this.#closing.signal, (over) => clock.sleep(ms, over)).catch(() => undefined);
    this.#wake = () => {};
  }
}
