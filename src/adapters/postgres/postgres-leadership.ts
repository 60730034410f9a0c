import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import type { Fence } from '../../domain/fence.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Leadership, LeaseHolder, Term } from '../../ports/leadership.ts';
import { LeaseTerm, type LeaseTimes } from '../../ports/lease-term.ts';
import type { Logger } from '../../ports/logger.ts';
import { winLease, type LeaseAnswer } from '../../ports/win-lease.ts';
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
  /** Who holds the lease, for people; a random part is added, so that no two processes have one name. Default: host and process id. */
  readonly holder?: string;
  /** A lease that is not renewed can be taken over after this. Default 15 s. */
  readonly leaseMs?: number | undefined;
  /** Between two renewals, and at most between two questions of a waiting process. Default a third of the lease. */
  readonly renewMs?: number;
}

/** Of the lease, what is never used. */
const MARGIN = 0.1;

/** The lease that all processes on one database share; the status writes of the store are checked against it. */
const LEASE_NAME = 'controller';

/**
 * A row in `plugset.leases`, by the clock of the database alone. Each process only ever measures how long ago it asked:
 * on its own monotonic clock, from before the question left, so it always stops before anybody else can start.
 */
export class PostgresLeadership implements Leadership {
  readonly #options: PostgresLeadershipOptions;
  readonly #holder: string;
  readonly #times: LeaseTimes;

  constructor(options: PostgresLeadershipOptions) {
    this.#options = options;
    const leaseMs = options.leaseMs ?? 15_000;
    const renewMs = options.renewMs ?? leaseMs / 3;
    if (renewMs * 2 > leaseMs)
      throw new RangeError(`a lease of ${leaseMs} ms needs renewals at least twice as often, not every ${renewMs} ms`);
    this.#holder = `${options.holder ?? `${hostname()}-${process.pid}`}-${randomUUID().slice(0, 8)}`;
    this.#times = { leaseMs, patienceMs: leaseMs * (1 - MARGIN), renewMs, attemptMs: renewMs / 2 };
  }

  acquire(
    signal: AbortSignal,
    onWaiting?: (holder: string) => void,
    onUnable?: (why: string | undefined) => void,
  ): Promise<Term> {
    const { clock, logger } = this.#options;
    const ask = (until: AbortSignal): Promise<LeaseAnswer<Term>> => this.#ask(until);
    return winLease({ clock, logger, renewMs: this.#times.renewMs, ask }, signal, onWaiting, onUnable);
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

  async #ask(signal: AbortSignal): Promise<LeaseAnswer<Term>> {
    const { clock, database, logger } = this.#options;
    const askedAtMs = clock.monotonic();
    const values = [LEASE_NAME, this.#holder, this.#times.leaseMs / 1000];
    const [row] = await database.query<AcquireRow>(ACQUIRE, values, signal);
    if (row === undefined || row.epoch === null || row.n === null) return { kind: 'held', holder: row?.holder ?? null };
    const fence: Fence = { authority: this.#options.authority ?? row.authority, epoch: row.epoch, n: row.n };
    const renew = (leaseMs: number, until: AbortSignal): Promise<boolean> => this.#renew(fence, leaseMs, until);
    return { kind: 'won', term: new LeaseTerm({ clock, logger, times: this.#times, fence, askedAtMs, renew }) };
  }

  async #renew({ epoch, n }: Fence, leaseMs: number, signal: AbortSignal): Promise<boolean> {
    const values = [LEASE_NAME, this.#holder, epoch, n, leaseMs / 1000];
    return (await this.#options.database.query(RENEW, values, signal)).length > 0;
  }
}

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

/** A length of 0 gives the lease back. */
const RENEW = `
  update plugset.leases set expires_at = clock_timestamp() + make_interval(secs => $5)
   where name = $1 and holder = $2 and epoch = $3 and n = $4
  returning n`;

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
