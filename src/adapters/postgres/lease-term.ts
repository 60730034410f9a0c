import { aborted } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { Term } from '../../ports/leadership.ts';
import type { Logger } from '../../ports/logger.ts';
import type { PostgresDatabase } from './postgres-database.ts';

export interface Lease {
  readonly name: string;
  readonly holder: string;
  readonly leaseMs: number;
  readonly renewMs: number;
}

export interface LeaseTermOptions {
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly lease: Lease;
  readonly fence: Fence;
  /** Monotonic time before the question that won the lease left this process. */
  readonly askedAtMs: number;
}

/** Of the lease, what is never used: work that hears of the end needs a moment to stop. */
const MARGIN = 0.1;

/**
 * One turn on the lease row. States:
 *
 * - held: a timer stands at (last question that was answered yes, as of its asking) + lease - margin. A renewal is asked
 *   for every `renewMs`, after a failure five times as often; each attempt is cut off after half of `renewMs`, so
 *   that one slow answer cannot use up the time of the next attempts. A yes moves the timer.
 * - over, for ever: the timer fired, or the row belongs to another turn, or `release` was called.
 */
export class LeaseTerm implements Term {
  readonly fence: Fence;
  readonly #options: LeaseTermOptions;
  readonly #over = new AbortController();
  readonly #renewing: Promise<void>;
  #deadline: Timer | undefined;
  #released: Promise<void> | undefined;

  constructor(options: LeaseTermOptions) {
    this.#options = options;
    this.fence = options.fence;
    this.#extend(options.askedAtMs);
    this.#renewing = this.#keepRenewing();
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  release(): Promise<void> {
    return (this.#released ??= this.#giveBack());
  }

  #extend(askedAtMs: number): void {
    const { clock, lease } = this.#options;
    this.#deadline?.cancel();
    const leftMs = askedAtMs + lease.leaseMs * (1 - MARGIN) - clock.monotonic();
    this.#deadline = clock.setTimer(Math.max(0, leftMs), () => this.#end('the lease could not be renewed in time'));
  }

  #end(why: string): void {
    this.#deadline?.cancel();
    this.#over.abort(aborted(why));
  }

  /** Never rejects; ends with the term. */
  async #keepRenewing(): Promise<void> {
    const { clock, lease, logger } = this.#options;
    let failures = 0;
    for (;;) {
      await clock.sleep(failures === 0 ? lease.renewMs : lease.renewMs / 5, this.signal).catch(() => undefined);
      if (this.signal.aborted) return;
      const askedAtMs = clock.monotonic();
      try {
        if (await this.#renewFor(lease.leaseMs, this.signal)) this.#extend(askedAtMs);
        else this.#end('another process has taken the lease');
        failures = 0;
      } catch (error) {
        if (!this.signal.aborted)
          logger[failures++ === 0 ? 'warn' : 'debug']('the lease was not renewed; trying again', { error, failures });
      }
    }
  }

  /** `false`: the row does not belong to this turn any more. */
  async #renewFor(leaseMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, database, lease } = this.#options;
    const deadline = new Deadline(clock, lease.renewMs / 2, signal);
    try {
      const values = [lease.name, lease.holder, this.fence.epoch, this.fence.n, leaseMs / 1000];
      return (await database.query(RENEW, values, deadline.signal)).length > 0;
    } finally {
      deadline.clear();
    }
  }

  async #giveBack(): Promise<void> {
    this.#end('the lease was released');
    await this.#renewing;
    const { logger } = this.#options;
    try {
      await this.#renewFor(0, new AbortController().signal);
    } catch (error) {
      logger.warn('the lease was not given back; it runs out by itself', { error });
    }
  }
}

/** A length of 0 gives the lease back. */
const RENEW = `
  update plugset.leases set expires_at = clock_timestamp() + make_interval(secs => $5)
   where name = $1 and holder = $2 and epoch = $3 and n = $4
  returning n`;
