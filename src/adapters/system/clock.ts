import { performance } from 'node:perf_hooks';

import type { Clock, Timer } from '../../ports/clock.ts';

/** setTimeout takes a signed 32-bit delay and fires at once on anything longer, so long waits are cut into pieces. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

/**
 * The clock of the machine. Its timers hold the process open on purpose: a controller whose only work is due in an hour
 * has nothing else that does, and Node would end it without a word. Who sets a timer cancels it at shutdown.
 */
export class SystemClock implements Clock {
  now(): number {
    return Date.now();
  }

  monotonic(): number {
    return performance.now();
  }

  random(): number {
    return Math.random();
  }

  setTimer(delayMs: number, callback: () => void): Timer {
    let handle: NodeJS.Timeout;
    const arm = (remainingMs: number): void => {
      const piece = Math.min(remainingMs, LONGEST_DELAY_MS);
      handle = setTimeout(() => {
        if (remainingMs > piece) arm(remainingMs - piece);
        else callback();
      }, piece);
    };
    arm(Math.max(0, delayMs));
    return {
      cancel() {
        clearTimeout(handle);
      },
    };
  }

  sleep(delayMs: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(signal.reason);
      };
      const timer = this.setTimer(delayMs, () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
