import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import { aborted, classifyError } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Leadership, LeaseHolder, Term } from '../../ports/leadership.ts';
import type { Logger } from '../../ports/logger.ts';
import { LeaseTerm, type Lease } from './lease-term.ts';
import type { PostgresDatabase } from './postgres-database.ts';

export interface PostgresLeadershipOptions {
  /**
   * Best one of its own (`poolSize: 1`): a renewal that waits behind status writes for a free connection comes late.
   * Whoever opened it closes it, after the term was released.
   */
  readonly database: PostgresDatabase;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What the fence says this controller is, in the grammar of names. Default: the id that the database has from its making. */
  readonly authority?: string;
  /** Who holds the lease, for people. Default: host, process id and a random part. */
  readonly holder?: string;
  /** A lease that is not renewed can be taken over after this. Default 15 s. */
  readonly leaseMs?: number;
  /** Between two renewals, and at most between two questions of a waiting process. Default a third of the lease. */
  readonly renewMs?: number;
}

/** The lease that all processes on one database share; the status writes of the store are checked against it. */
const LEASE_NAME = 'controller';

/**
 * A row in `plugset.leases`, by the clock of the database alone. Each process only ever measures how long ago it asked:
 * on its own monotonic clock, from before the question left, so it always stops before anybody else can start.
 */
export class PostgresLeadership implements Leadership {
  readonly #options: PostgresLeadershipOptions;
  readonly #lease: Lease;

  constructor(options: PostgresLeadershipOptions) {
    this.#options = options;
    const leaseMs = options.leaseMs ?? 15_000;
    const renewMs = options.renewMs ?? leaseMs / 3;
    if (renewMs * 2 > leaseMs)
      throw new RangeError(`a lease of ${leaseMs} ms needs renewals at least twice as often, not every ${renewMs} ms`);
    this.#lease = {
      name: LEASE_NAME,
      holder: options.holder ?? `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`,
      leaseMs,
      renewMs,
    };
  }

  async acquire(
    signal: AbortSignal,
    onWaiting: (holder: string) => void = () => undefined,
    onUnable: (why: string | undefined) => void = () => undefined,
  ): Promise<Term> {
    const { clock, logger } = this.#options;
    let told: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      const askedAtMs = clock.monotonic();
      try {
        const answer = await this.#tryAcquire(signal);
        if (failures > 0) onUnable(undefined);
        failures = 0;
        if (answer.kind === 'won')
          return new LeaseTerm({ ...this.#options, lease: this.#lease, fence: answer.fence, askedAtMs });
        if (answer.holder !== null && answer.holder !== told) onWaiting((told = answer.holder));
      } catch (error) {
        // An outage is news once.
        const level = failures++ === 0 ? 'warn' : 'debug';
        if (signal.aborted) break;
        logger[level]('could not ask for the lease; asking until it answers', { error });
        onUnable(classifyError(error).message);
      }
      // A random part of the interval, so that those who wait do not ask in step.
      await clock.sleep(this.#lease.renewMs * (0.5 + clock.random() / 2), signal).catch(() => undefined);
    }
    throw aborted('no longer waiting for the lease', signal.reason);
  }

  /** Whom the fences of this database name. Needs no lease. */
  async authority(signal: AbortSignal): Promise<string | undefined> {
    if (this.#options.authority !== undefined) return this.#options.authority;
    const text = `select value as authority from plugset.meta where key = 'authority'`;
    const [row] = await this.#options.database.query<{ authority: string }>(text, [], signal);
    return row?.authority;
  }

  async lastHolder(signal: AbortSignal): Promise<LeaseHolder | undefined> {
    const [row] = await this.#options.database.query<HolderRow>(LAST_HOLDER, [LEASE_NAME], signal);
    if (row === undefined) return undefined;
    const turn = { name: row.holder, since: new Date(row.acquired_at_ms).toISOString() };
    if (row.is_leading) return { ...turn, isLeading: true };
    return { ...turn, isLeading: false, until: new Date(row.expires_at_ms).toISOString() };
  }

  async #tryAcquire(signal: AbortSignal): Promise<Answer> {
    const { name, holder, leaseMs } = this.#lease;
    const [row] = await this.#options.database.query<AcquireRow>(ACQUIRE, [name, holder, leaseMs / 1000], signal);
    if (row === undefined || row.epoch === null || row.n === null) return { kind: 'held', holder: row?.holder ?? null };
    const authority = this.#options.authority ?? row.authority;
    return { kind: 'won', fence: { authority, epoch: row.epoch, n: row.n } };
  }
}

/** `holder` is null when it took the lease in this very moment. */
type Answer =
  | { readonly kind: 'won'; readonly fence: Fence }
  | { readonly kind: 'held'; readonly holder: string | null };

interface AcquireRow {
  readonly authority: string;
  readonly epoch: number | null;
  readonly n: number | null;
  readonly holder: string | null;
}

interface HolderRow {
  readonly holder: string;
  readonly is_leading: boolean;
  readonly acquired_at_ms: number;
  readonly expires_at_ms: number;
}

const LAST_HOLDER = `
  select holder, expires_at > clock_timestamp() as is_leading,
         floor(extract(epoch from acquired_at) * 1000)::float8 as acquired_at_ms,
         floor(extract(epoch from expires_at) * 1000)::float8 as expires_at_ms
    from plugset.leases where name = $1`;

/**
 * Takes the lease if it is free, has run out, or is still this process's own from a term that it believes lost: each time
 * a new turn. `n` is at least the Unix time, so that a database restored from a backup never hands out a number again.
 *
 * Statuses of a later life than the lease's were written by a term that went on while its database was restored under it.
 * They would refuse every other for ever, so a new life begins, later than theirs.
 */
const ACQUIRE = `
  with seen as (select coalesce(max(fence_epoch), 0) as epoch from plugset.workspace_status),
  taken as (
    insert into plugset.leases as l (name, holder, epoch, n, acquired_at, expires_at)
    select $1, $2, greatest(floor(extract(epoch from t) * 1000), seen.epoch + 1), floor(extract(epoch from t)),
           t, t + make_interval(secs => $3)
      from (select clock_timestamp() as t) clock, seen
    on conflict (name) do update
      set holder = excluded.holder, n = greatest(l.n + 1, excluded.n),
          epoch = case when l.epoch < (select epoch from seen) then excluded.epoch else l.epoch end,
          acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
      where l.expires_at <= clock_timestamp() or l.holder = excluded.holder
    returning epoch, n)
  select (select value from plugset.meta where key = 'authority') as authority,
         (select epoch::float8 from taken) as epoch,
         (select n::float8 from taken) as n,
         (select holder from plugset.leases where name = $1) as holder`;
