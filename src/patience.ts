import { classifyError } from './domain/errors.ts';
import type { Clock } from './ports/clock.ts';
import type { Logger } from './ports/logger.ts';
import type { Telemetry } from './telemetry.ts';

/**
 * Waits for a store that does not answer yet, as after a power cut, instead of ending in a loop of restarts. Meanwhile
 * the process already answers for itself: whatever starts it again when it is silent must not take the wait for a hang.
 */
export interface Patience {
  /** Ends the wait: opening then rejects. */
  readonly signal: AbortSignal;
  /** Metrics and health are served from here on. */
  onListening?(url: string): void;
}

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 30_000;

interface PatiencePorts {
  readonly clock: Clock;
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

/** What `open` answers, in the end. Throws what trying again does not help, and when the wait was ended. */
export async function openPatiently<T>(
  open: (signal: AbortSignal) => Promise<T>,
  patience: Patience,
  { clock, logger, telemetry }: PatiencePorts,
): Promise<T> {
  // Said before anybody can ask, or who starts it takes it for ready before there is a store.
  telemetry.obstacle = waitingForStore('it has not answered yet');
  // Not as an argument: where nobody wants to hear of it, it would not even listen.
  const url = await telemetry.listen();
  patience.onListening?.(url);
  for (let waitMs = FIRST_WAIT_MS; ; waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2)) {
    try {
      const opened = await open(patience.signal);
      telemetry.obstacle = undefined;
      return opened;
    } catch (error) {
      const { class: errorClass, reason, message } = classifyError(error);
      if (reason !== 'StoreUnavailable' || (errorClass !== 'transient' && errorClass !== 'waiting')) throw error;
      logger.warn('the store does not answer; trying again', { error, waitMs });
      telemetry.obstacle = waitingForStore(message);
      await clock.sleep(waitMs, patience.signal);
    }
  }
}

/** As health tells it. */
export function waitingForStore(why: string): string {
  return `waiting for the store: ${why}`;
}
