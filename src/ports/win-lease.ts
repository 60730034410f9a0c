import { aborted, classifyError } from '../domain/errors.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';

/* As lease-term.ts: no port, but what every adapter that keeps a lease would write again, and may import from nowhere else. */

/** What a store says to whoever wants its lease. `holder`: who has it; `null`: nobody can tell. */
export type LeaseAnswer<T> =
  | { readonly kind: 'won'; readonly term: T }
  | { readonly kind: 'held'; readonly holder: string | null };

export interface WinLeaseOptions<T> {
  readonly clock: Clock;
  readonly logger: Logger;
  /** At most so long between two questions. */
  readonly renewMs: number;
  readonly ask: (signal: AbortSignal) => Promise<LeaseAnswer<T>>;
}

/** Asks for a lease until it is won; the parameters are those of `Leadership.acquire`. */
export async function winLease<T>(
  { clock, logger, renewMs, ask }: WinLeaseOptions<T>,
  signal: AbortSignal,
  onWaiting: (holder: string) => void = () => undefined,
  onUnable: (why: string | undefined) => void = () => undefined,
): Promise<T> {
  let told: string | undefined;
  let failures = 0;
  while (!signal.aborted) {
    // A random part of the interval, so that those who wait do not ask in step.
    let waitMs = renewMs * (0.5 + clock.random() / 2);
    try {
      const answer = await ask(signal);
      if (failures > 0) onUnable(undefined);
      failures = 0;
      if (answer.kind === 'won') return answer.term;
      if (answer.holder !== null && answer.holder !== told) onWaiting((told = answer.holder));
    } catch (error) {
      // An outage is news once.
      const level = failures++ === 0 ? 'warn' : 'debug';
      if (signal.aborted) break;
      logger[level]('could not ask for the lease; asking until it answers', { error });
      const { message, retryAfterMs = 0 } = classifyError(error);
      onUnable(message);
      waitMs = Math.max(waitMs, retryAfterMs);
    }
    await clock.sleep(waitMs, signal).catch(() => undefined);
  }
  throw aborted('no longer waiting for the lease', signal.reason);
}
