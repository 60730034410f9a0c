import { PostgresLeadership } from '../../src/adapters/postgres/postgres-leadership.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { withBackend } from '../support/backend.ts';
import { proxiedDatabase } from '../support/proxied-database.ts';
import { describeLeadership } from './leadership.ts';

await withBackend('postgres', (address) =>
  describeLeadership('postgres', {
    create: async () => {
      const { connect, logger, network, dispose } = await proxiedDatabase(address);
      let processes = 0;
      return {
        open: async (holder = `process-${(processes += 1)}`) => {
          const database = connect({ poolSize: 1 });
          const leadership = new PostgresLeadership({
            database,
            clock: new SystemClock(),
            logger,
            holder,
            // So long that nobody on a busy machine loses it by chance.
            leaseMs: 10_000,
            renewMs: 1_000,
          });
          return { leadership, holder, crash: () => database.close() };
        },
        break: async () => network.refuse(),
        heal: async () => network.heal(),
        dispose,
      };
    },
  }),
);
