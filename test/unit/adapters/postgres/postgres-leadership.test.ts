import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import {
  PostgresLeadership,
  type PostgresLeadershipOptions,
} from '../../../../src/adapters/postgres/postgres-leadership.ts';
import { SystemClock } from '../../../../src/adapters/system/clock.ts';
import type { Term } from '../../../../src/ports/leadership.ts';
import { withBackend } from '../../../support/backend.ts';
import { eventually } from '../../../support/eventually.ts';
import { FakeClock } from '../../../support/fake-clock.ts';
import { proxiedDatabase, type ProxiedDatabase } from '../../../support/proxied-database.ts';

await withBackend('postgres', (address) =>
  describe('PostgresLeadership', () => {
    let world: ProxiedDatabase;
    const terms: Term[] = [];
    const signal = new AbortController().signal;

    beforeEach(async () => {
      world = await proxiedDatabase(address);
    });
    afterEach(async () => {
      await Promise.all(terms.splice(0).map((term) => term.release()));
      await world.dispose();
    });

    function candidate(options: Partial<PostgresLeadershipOptions> = {}): PostgresLeadership {
      const database = world.connect({ poolSize: 1, statementTimeoutMs: 2000 });
      return new PostgresLeadership({
        database,
        clock: new SystemClock(),
        logger: world.logger,
        // So long that nobody on a busy machine loses it by chance.
        leaseMs: 10_000,
        renewMs: 1_000,
        ...options,
      });
    }

    async function acquire(leadership: PostgresLeadership, onWaiting?: (holder: string) => void): Promise<Term> {
      const term = await leadership.acquire(signal, onWaiting);
      terms.push(term);
      return term;
    }

    const ended = (term: Term): Promise<void> => eventually(() => expect(term.signal.aborted).toBe(true));

    test('is renewed for as long as the process lives', async () => {
      const term = await acquire(candidate());
      const expiry = async (): Promise<Date | undefined> =>
        (await world.direct.sql<{ expires_at: Date }>('select expires_at from plugset.leases'))[0]?.expires_at;
      const first = await expiry();
      await eventually(async () => expect((await expiry())?.getTime()).toBeGreaterThan((first?.getTime() ?? 0) + 1800));
      expect(term.signal.aborted).toBe(false);
    });

    test('a frozen holder is followed by the next one, and learns of it when it thaws', async () => {
      const clock = new FakeClock();
      const frozen = await acquire(candidate({ clock, holder: 'frozen' }));
      const holders: string[] = [];
      const next = await acquire(candidate(), (holder) => holders.push(holder));
      expect(holders).toEqual([expect.stringMatching(/^frozen-[0-9a-f]{8}$/) as string]);
      expect(next.fence.n).toBeGreaterThan(frozen.fence.n);
      expect(frozen.signal.aborted).toBe(false);
      await clock.advance(60_000);
      await ended(frozen);
      expect(frozen.signal.reason).toMatchObject({ class: 'aborted', reason: 'NotLeader' });
      expect(next.signal.aborted).toBe(false);
    });

    test('the term ends before the lease can have run out, measured from before the last question that was answered', async () => {
      const clock = new FakeClock();
      const term = await acquire(candidate({ clock, leaseMs: 15_000, renewMs: 5000 }));
      world.network.refuse();
      await clock.advance(13_499);
      expect(term.signal.aborted).toBe(false);
      await clock.advance(1);
      expect(term.signal.aborted).toBe(true);
    });

    test('one killed connection costs nothing', async () => {
      const term = await acquire(candidate());
      const renewed = async (): Promise<number> => world.logger.at('warn').length;
      await world.direct.sql(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'plugset'`,
      );
      await world.direct.sql(`update plugset.leases set expires_at = clock_timestamp()`);
      await eventually(async () => {
        const [row] = await world.direct.sql<{ live: boolean }>(
          'select expires_at > clock_timestamp() as live from plugset.leases',
        );
        expect(row?.live).toBe(true);
      });
      expect(term.signal.aborted).toBe(false);
      expect(await renewed()).toBeLessThanOrEqual(1);
    });

    test('a database that hangs ends the term in time, and the process goes on to campaign', async () => {
      const leadership = candidate();
      const term = await acquire(leadership);
      world.network.blackHole();
      await ended(term);
      world.network.heal();
      const next = await acquire(leadership);
      expect(next.fence.n).toBeGreaterThan(term.fence.n);
      expect(term.signal.aborted).toBe(true);
    });

    test('a lease that somebody took is lost at the next renewal', async () => {
      const term = await acquire(candidate());
      await world.direct.sql(`update plugset.leases set holder = 'thief', n = n + 1`);
      await ended(term);
      expect(term.signal.reason).toMatchObject({ message: expect.stringContaining('another process') });
      await term.release();
      expect(await world.direct.sql('select holder from plugset.leases where expires_at > clock_timestamp()')).toEqual([
        { holder: 'thief' },
      ]);
    });

    test('a deleted lease row is a new life: a higher epoch', async () => {
      const leadership = candidate();
      const term = await acquire(leadership);
      await world.direct.sql('delete from plugset.leases');
      await ended(term);
      const next = await acquire(leadership);
      expect(next.fence.epoch).toBeGreaterThan(term.fence.epoch);
    });

    test('a database that was restored hands out no number again', async () => {
      const leadership = candidate();
      const term = await acquire(leadership);
      await term.release();
      let next = term;
      // The number comes from the second, so a restore that took less than one would show here.
      await eventually(async () => {
        await world.direct.sql('update plugset.leases set n = 7');
        next = await acquire(leadership);
        await next.release();
        expect(next.fence.n).toBeGreaterThan(term.fence.n);
      });
      expect(next.fence.epoch).toBe(term.fence.epoch);
      // Turns within one second count on from each other.
      await world.direct.sql('update plugset.leases set n = n + 1000');
      expect((await acquire(leadership)).fence.n).toBeGreaterThan(next.fence.n + 1000);
    });

    test('the authority is that of the database, or what the operator says', async () => {
      const [meta] = await world.direct.sql<{ value: string }>(
        `select value from plugset.meta where key = 'authority'`,
      );
      const term = await acquire(candidate());
      expect(term.fence.authority).toBe(meta?.value);
      await term.release();
      expect((await acquire(candidate({ authority: 'fleet-a' }))).fence.authority).toBe('fleet-a');
    });

    test('a database that is away at the start is waited for', async () => {
      world.network.refuse();
      const waiting = acquire(candidate({ renewMs: 20 }));
      const asked = (): number =>
        world.logger.lines.filter(({ message }) => message.startsWith('could not ask for the lease')).length;
      await eventually(() => expect(asked()).toBeGreaterThan(2));
      expect(world.logger.at('warn')).toHaveLength(1);
      world.network.heal();
      expect((await waiting).signal.aborted).toBe(false);
    });

    test('a renewal interval that leaves no second try is refused', () => {
      expect(() => candidate({ leaseMs: 1000, renewMs: 600 })).toThrow(RangeError);
    });
  }),
);
