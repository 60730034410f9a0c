import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { resolve } from 'node:path';

import { aborted } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { untilEither } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Leadership, LeaseHolder, Term } from '../../ports/leadership.ts';
import type { Logger } from '../../ports/logger.ts';
import { unavailable } from './node-error.ts';
import { SocketLock, type HeldLock, type LockDocument, type LockNote } from './socket-lock.ts';

export interface FilesLeadershipOptions {
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the fence says this controller is; in the grammar of names. Default: an id kept in the state directory. */
  readonly authority?: string;
  /** Who acts, for people. Default: host and process id. */
  readonly holder?: string;
  /** Between two looks: of the leader, whether the lease is still his; of who waits, as a fallback. Default 5000. */
  readonly checkMs?: number;
}

/**
 * Leadership among the processes of one machine. It ends with its process and not by time: a leader that is stopped
 * (SIGSTOP) keeps it, and nobody takes over until it goes on or dies.
 *
 * `leader.json` is the lease: `createdAt` is its life (the epoch), `n` the last turn. It is on the disk before the term
 * begins. Removing the state directory begins another life, and another authority if none is configured.
 */
export class FilesLeadership implements Leadership {
  readonly #options: FilesLeadershipOptions;
  readonly #checkMs: number;
  readonly #lock: SocketLock;

  constructor(options: FilesLeadershipOptions) {
    this.#options = options;
    this.#checkMs = options.checkMs ?? 5000;
    this.#lock = new SocketLock(resolve(options.stateDirectory), 'leader');
  }

  async acquire(
    signal: AbortSignal,
    onWaiting: (holder: string) => void = () => undefined,
    onUnable: (why: string | undefined) => void = () => undefined,
  ): Promise<Term> {
    const { clock, logger, stateDirectory: directory } = this.#options;
    let told: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      try {
        const attempt = await this.#lock.tryAcquire((previous) => this.#nextLease(previous), true);
        if (failures > 0) onUnable(undefined);
        failures = 0;
        if (attempt.kind === 'acquired') return this.#begin(attempt.lock);
        const holder = String(attempt.document?.['holder'] ?? 'another process');
        if (holder !== told) onWaiting((told = holder));
        await this.#until(attempt.released, signal);
        attempt.stopWaiting();
      } catch (error) {
        if (signal.aborted) break;
        // An outage is news once.
        const level = failures++ === 0 ? 'error' : 'debug';
        logger[level]('cannot use the state directory; trying until it can be used', { error, directory });
        onUnable(unavailable(`cannot use the state directory ${directory}`, error).message);
        await clock.sleep(this.#checkMs, signal).catch(() => undefined);
      }
    }
    throw aborted('no longer waiting to be the one that acts', signal.reason);
  }

  /** Whom the fences of this state directory name; `undefined` before its first turn. Needs no lease. */
  async authority(): Promise<string | undefined> {
    return this.#options.authority ?? textOf((await this.#lock.read())?.['authority']);
  }

  async lastHolder(): Promise<LeaseHolder | undefined> {
    try {
      const document = await this.#lock.read();
      if (document === undefined) return undefined;
      const turn = { name: String(document['holder']), since: String(document['since']) };
      if (await this.#lock.isHeld(document.turn)) return { ...turn, isLeading: true };
      return { ...turn, isLeading: false, until: new Date(await this.#lock.touchedAtMs()).toISOString() };
    } catch (error) {
      throw unavailable(`cannot read who leads in ${this.#options.stateDirectory}`, error);
    }
  }

  /** Turns never fall, not even when the directory was restored from a backup: time has passed since. */
  #nextLease(previous: LockDocument | undefined): LockNote {
    const { clock, authority, holder = `${hostname()}-${process.pid}` } = this.#options;
    const now = clock.now();
    return {
      authority: authority ?? textOf(previous?.['authority']) ?? randomUUID(),
      createdAt: numberOf(previous?.['createdAt']) ?? now,
      n: Math.max((numberOf(previous?.['n']) ?? 0) + 1, Math.floor(now / 1000)),
      holder,
      since: new Date(now).toISOString(),
    };
  }

  #begin(lock: HeldLock): Term {
    const { document } = lock;
    const fence: Fence = {
      authority: String(document['authority']),
      epoch: Number(document['createdAt']),
      n: Number(document['n']),
    };
    const over = new AbortController();
    const watching = this.#watchLease(document.turn, over);
    const release = async (): Promise<void> => {
      over.abort(aborted('the lease was given back'));
      await watching;
      await this.#touch();
      await lock.release();
    };
    return { fence, signal: over.signal, release };
  }

  /** The directory may be removed or restored under a living leader, and then the next one sees no lock. */
  async #watchLease(turn: number, over: AbortController): Promise<void> {
    const { clock, stateDirectory } = this.#options;
    while (!over.signal.aborted) {
      await clock.sleep(this.#checkMs, over.signal).catch(() => undefined);
      if (over.signal.aborted) return;
      const document = await this.#lock.read().catch(() => undefined);
      if (document?.turn !== turn) over.abort(aborted(`the lease in ${stateDirectory} is not ours any more`));
      else await this.#touch();
    }
  }

  /** Tells people until when we led, should we be killed; nothing hangs on it. */
  async #touch(): Promise<void> {
    await this.#lock.touch(this.#options.clock.now()).catch(() => undefined);
  }

  async #until(released: Promise<void>, signal: AbortSignal): Promise<void> {
    const enough = new AbortController();
    const pause = untilEither(signal, enough.signal, (over) => this.#options.clock.sleep(this.#checkMs, over));
    await Promise.race([released, pause]).catch(() => undefined);
    enough.abort();
  }
}

function numberOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
