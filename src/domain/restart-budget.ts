import { z } from 'zod';

import { stateKey } from './state-key.ts';

/*
 * How often a fleet as a whole is restarted: a branch that hundreds of workspaces follow must not take them all down at once.
 */

export interface FleetRestartLimits {
  /** Restarts of all workspaces together, one at least … */
  readonly restarts: number;
  /** … within any span of so many milliseconds, an hour at most. */
  readonly windowMs: number;
  /** None is restarted for so long after a controller has begun to lead. */
  readonly settleMs: number;
}

export const DEFAULT_FLEET_RESTARTS: FleetRestartLimits = { restarts: 25, windowMs: 600_000, settleMs: 120_000 };

/** When workspaces were restarted, the newest last; what is older than the hour goes with the next write. */
export const RESTARTED_KEY = stateKey('fleet', 'restarted');

export const restartedSchema = z.array(z.object({ atMs: z.number() }));

/**
 * When the next restart has room, Unix milliseconds; not after `nowMs`: now. `takenMs`: restarts that were made, and those
 * promised to others who have waited longer.
 */
export function nextRoomMs(
  takenMs: readonly number[],
  { restarts, windowMs }: FleetRestartLimits,
  nowMs: number,
): number {
  // Each restart waits until the one that is `restarts` before it is out of the window.
  const before = takenMs.toSorted((a, b) => a - b).at(-restarts);
  return before === undefined ? nowMs : before + windowMs;
}
