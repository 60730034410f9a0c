import { aborted, classifyError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import type { Clock, Timer } from './clock.ts';
import { Deadline } from './deadline.ts';
import type { Term } from './leadership.ts';
import type { Logger } from './logger.ts';

/* No port, but what every adapter that keeps a lease would write again; it may import it from nowhere else. */

/** How a lease is kept, in milliseconds. client-go calls them LeaseDuration, RenewDeadline and RetryPeriod; it has no `attemptMs`. */
export interface LeaseTimes {
  /** One that is not renewed can be taken over after this. */
  readonly leaseMs: number;
  /** Whoever could not renew it for so long acts no more. Less than the lease: work that hears of the end needs a moment to stop. */
  readonly patienceMs: number;
  /** Between two renewals, and at most between two questions of a waiting process. */
  readonly renewMs: number;
  /** One attempt is cut off after this, so that a slow answer cannot use up the time of the next ones. */
  readonly attemptMs: number;
}

export interface LeaseTermOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly times: LeaseTimes;
  readonly fence: Fence;
  /** Monotonic time before the question that won the lease left this process. */
  readonly askedAtMs: number;
  /** Makes the lease last so long from now; 0 gives it back. `false`: it does not belong to this turn any more. */
  readonly renew: (leaseMs: number, signal: AbortSignal) => Promise<boolean>;
}

/**
 * One turn on a lease that some store keeps. States:
 *
 * - held: a timer stands at (last question that was answered yes, as of its asking) + patience. A renewal is asked for every
 *   `renewMs`, after a failure five times as often, unless the store says when to come back. A yes moves the timer.
 * - over, for ever: the timer fired, or would have if this process had not been frozen, or the lease belongs to another turn,
 *   or `release` was called.
 */
export class LeaseTerm implements Term {
  readonly fence: Fence;
  readonly #options: LeaseTermOptions;
  readonly #over = new AbortController();
  readonly #renewing: Promise<void>;
  #untilMs = -Infinity;
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

  get #leftMs(): number {
    return this.#untilMs - this.#options.clock.monotonic();
  }

  /** A yes may come late: after the end, or, to a process that was frozen, before its timer has had a chance to fire. */
  #extend(askedAtMs: number): void {
    const { clock, times } = this.#options;
    if (this.signal.aborted) return;
    this.#deadline?.cancel();
    this.#untilMs = askedAtMs + times.patienceMs;
    if (this.#leftMs <= 0) this.#runOut();
    else this.#deadline = clock.setTimer(this.#leftMs, () => this.#runOut());
  }

  #runOut(): void {
    this.#end('the lease could not be renewed in time');
  }

  #end(why: string): void {
    this.#deadline?.cancel();
    this.#over.abort(aborted(why));
  }

  /** Never rejects; ends with the term. */
  async #keepRenewing(): Promise<void> {
    const { clock, logger, times } = this.#options;
    let failures = 0;
    let waitMs = times.renewMs;
    for (;;) {
      await clock.sleep(waitMs, this.signal).catch(() => undefined);
      if (!this.signal.aborted && this.#leftMs <= 0) this.#runOut();
      if (this.signal.aborted) return;
      const askedAtMs = clock.monotonic();
      try {
        if (await this.#renewFor(times.leaseMs, this.signal)) this.#extend(askedAtMs);
        else this.#end('another process has taken the lease');
        failures = 0;
        waitMs = times.renewMs;
      } catch (error) {
        if (this.signal.aborted) return;
        logger[failures++ === 0 ? 'warn' : 'debug']('the lease was not renewed; trying again', { error, failures });
        waitMs = this.#retryMs(classifyError(error).retryAfterMs);
      }
    }
  }

  /** A store that wants to be left alone for longer than the lease has is asked again before it runs out all the same. */
  #retryMs(retryAfterMs = 0): number {
    return Math.max(this.#options.times.renewMs / 5, Math.min(retryAfterMs, this.#leftMs / 2));
  }

  async #renewFor(leaseMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock, renew, times } = this.#options;
    const deadline = new Deadline(clock, times.attemptMs, signal);
    try {
      return await deadline.race(renew(leaseMs, deadline.signal));
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
