import { whenAborted } from '../../ports/abort.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { ListenConnection } from './listen-connection.ts';

export interface KeepListeningOptions {
  readonly listen: (signal: AbortSignal) => Promise<ListenConnection>;
  /** Listening again after a gap: what was notified meanwhile is lost. What it throws counts as one more failure. */
  readonly onGap: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const RECONNECT_FIRST_MS = 200;
const RECONNECT_MAX_MS = 10_000;

/** Makes a lost connection anew, for ever, until `signal` aborts; `first` may be missing. Never rejects. */
export async function keepListening(
  { listen, onGap, clock, logger }: KeepListeningOptions,
  first: ListenConnection | undefined,
  signal: AbortSignal,
): Promise<void> {
  let connection = first;
  for (let failures = 0; ;) {
    if (connection !== undefined) await whenAborted(connection.ended);
    if (signal.aborted) return;
    await pause(clock, Math.min(RECONNECT_MAX_MS, RECONNECT_FIRST_MS * 2 ** failures), signal);
    try {
      connection = await listen(signal);
      // Only now, when nothing more can be missed, a look at everything closes the gap.
      await onGap(signal);
      if (failures > 0) logger.info('listening to the database again');
      failures = 0;
    } catch (error) {
      connection?.end();
      if (failures === 0 && !signal.aborted) logger.warn('the database is not heard; trying again', { error });
      failures += 1;
    }
  }
}

/** Half to one and a half times as long, so that many processes do not ask in step. Ends early with the signal. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  await clock.sleep(ms * (0.5 + clock.random()), signal).catch(() => undefined);
}
