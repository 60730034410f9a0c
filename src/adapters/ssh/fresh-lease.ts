import type { Clock } from '../../ports/clock.ts';
import type { SshEndpoint } from '../../ports/ssh-endpoint.ts';
import type { Lease, SessionPool } from './session-pool.ts';
import type { SshSession } from './session.ts';

/** sshd counts a session that has ended until it has buried its process: there may be room a moment later … */
const ROOM_MS = 50;
/** … and after so long another connection is made: what is on this one may stay there for hours. */
const FULL_MS = 1_000;
/** A host whose new connections have no room either has none. */
const PATIENCE_MS = 10_000;

/** For certain nothing was asked of the host. */
export class NotSent extends Error {
  constructor(cause: unknown) {
    super('the command was not sent', { cause });
  }
}

export interface LeaseParts {
  readonly pool: SessionPool;
  readonly clock: Clock;
}

/**
 * Does `work` on the connection to a host, and again while it throws {@link NotSent} and that may pass: one that stood for a
 * while may be dead, and one may allow fewer commands at once than most (MaxSessions). Throws what the work throws, and what
 * {@link SessionPool.lease} throws. The lease of work that fails is released.
 */
export async function withFreshLease<T>(
  { pool, clock }: LeaseParts,
  { endpoint, use }: { readonly endpoint: SshEndpoint; readonly use: 'commands' | 'streams' },
  signal: AbortSignal,
  work: (lease: Lease) => Promise<T>,
): Promise<T> {
  let refusedMs: number | undefined;
  let full: { readonly session: SshSession; readonly sinceMs: number } | undefined;
  for (;;) {
    const lease = await pool.lease(endpoint, use, signal);
    const { session, isReused } = lease;
    try {
      return await work(lease);
    } catch (error) {
      lease.release();
      if (!(error instanceof NotSent) || signal.aborted) throw error;
      if (!session.isUsable && !isReused) throw error;
      const nowMs = clock.monotonic();
      refusedMs ??= nowMs;
      if (nowMs - refusedMs >= PATIENCE_MS) throw error;
      if (full?.session !== session) full = { session, sinceMs: nowMs };
      // On this one, whatever else runs goes on.
      if (nowMs - full.sinceMs >= FULL_MS) lease.retire();
    }
    if (session.isUsable) await clock.sleep(ROOM_MS, signal);
  }
}
