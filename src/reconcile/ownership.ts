import { terminal, waiting } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';

/** Looked at again when the other declaration goes; this is only for a missed event. */
const RECHECK_MS = 5 * 60_000;

/**
 * May this workspace write to the target it found? The receipts there decide between two that claim it; without a
 * receipt neither acts, since a guess would let them undo each other for ever.
 *
 * Throws `ForeignOwner` (terminal) or `TargetClaimed` (waiting: it ends when the other declaration goes).
 */
export async function checkOwnership(
  key: WorkspaceKey,
  findRivals: () => Promise<readonly WorkspaceKey[]>,
  authority: string,
  takenFrom: string | undefined,
  target: string,
  observation: Observation,
): Promise<void> {
  const fence = observation.fence;
  if (fence !== undefined && fence.authority !== authority && fence.authority !== takenFrom) {
    throw terminal(
      'ForeignOwner',
      `${target} is managed by another controller (authority ${fence.authority}, ours is ${authority}); nothing is changed there. If that controller is gone for good, take over with: plugset takeover ${key} --from ${fence.authority} (with --all in the place of the name, every workspace that it managed)`,
    );
  }
  const owners = new Set(observation.plugins.flatMap((plugin) => plugin.receipt?.workspace ?? []));
  if (owners.has(key)) return;
  const rivals = await findRivals();
  if (rivals.length === 0) return;
  const owner = rivals.find((rival) => owners.has(rival));
  const message =
    owner === undefined
      ? `${target} is claimed by ${rivals.join(', ')} too, and nothing on it says whose it is; take one declaration out`
      : `${target} belongs to workspace ${owner}, as the receipts on it say; point this one somewhere else or take one out`;
  throw waiting('TargetClaimed', message, RECHECK_MS);
}
