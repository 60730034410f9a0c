import type { Clock } from '../ports/clock.ts';
import type { Leadership, Term } from '../ports/leadership.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics } from '../ports/metrics.ts';
import { Backoff } from './backoff.ts';
import { FailureRow } from './failure-row.ts';

export interface LeadingOptions {
  readonly leadership: Pick<Leadership, 'acquire'>;
  /**
   * What the leader does. `term.signal` aborts when this process may not act any more: drop everything. `stop` aborts
   * when it is to end in good order: finish, then return. Returning or throwing without either is a failure.
   */
  readonly lead: (term: Term, stop: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'leading'>;
}

/** A turn that held out this long begins no row of failures, and ends none. */
const HEALTHY_AFTER_MS = 60_000;

/**
 * Leads whenever this process may, until `stop` aborts. A lost term ends nothing but itself: everything in it is aborted
 * and the process stands for the next one. A leader that failed gives the lease back at once, and waits with backoff before it
 * stands again, so that a healthy process gets its turn.
 */
export async function campaign(options: LeadingOptions, stop: AbortSignal): Promise<void> {
  const { clock, logger } = options;
  const backoff = new Backoff<'term'>(clock, { baseMs: 2_000, maxMs: 30_000 });
  const failures = new FailureRow();
  const startOver = (): void => {
    backoff.forget('term');
    failures.end();
  };
  for (;;) {
    const term = await nextTerm(options, stop);
    if (term === undefined) return;
    // In a row of failures every turn begins like the one before.
    logger[backoff.failures('term') === 0 ? 'info' : 'debug']('leading', { fence: term.fence });
    const startedMs = clock.monotonic();
    const failure = await serve(options, term, stop);
    if (stop.aborted) {
      if (failure !== undefined) logger.error('the leader did not end in good order', { error: failure });
      return;
    }
    if (failure === undefined) {
      startOver();
      logger.warn('leadership was lost; standing for it again', { fence: term.fence });
      continue;
    }
    if (clock.monotonic() - startedMs > HEALTHY_AFTER_MS) startOver();
    const delayMs = backoff.next('term');
    logger[failures.isNews(failure) ? 'error' : 'debug']('the leader failed; standing for leadership again', {
      error: failure,
      delayMs,
    });
    await clock.sleep(delayMs, stop).catch(() => undefined);
    if (stop.aborted) return;
  }
}

/** `undefined` once `stop` has aborted. */
async function nextTerm(options: LeadingOptions, stop: AbortSignal): Promise<Term | undefined> {
  if (stop.aborted) return undefined;
  try {
    return await options.leadership.acquire(stop, (holder) => {
      options.logger.info('standing by: another process leads', { holder });
    });
  } catch (error) {
    if (stop.aborted) return undefined;
    throw error;
  }
}

/** Resolves with what went wrong, or `undefined` when the term was lost or `stop` asked for the end. */
async function serve(options: LeadingOptions, term: Term, stop: AbortSignal): Promise<unknown> {
  options.metrics.leading(true);
  try {
    await options.lead(term, stop);
    return term.signal.aborted || stop.aborted ? undefined : new Error('the leader ended by itself');
  } catch (error) {
    return term.signal.aborted ? undefined : error;
  } finally {
    options.metrics.leading(false);
    await release(options, term);
  }
}

async function release(options: LeadingOptions, term: Term): Promise<void> {
  try {
    await term.release();
  } catch (error) {
    options.logger.warn('the lease could not be given back; it runs out by itself', { error });
  }
}
