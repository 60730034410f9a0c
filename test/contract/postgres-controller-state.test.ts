import { PostgresControllerState } from '../../src/adapters/postgres/postgres-controller-state.ts';
import { withBackend } from '../support/backend.ts';
import { proxiedDatabase } from '../support/proxied-database.ts';
import { describeControllerState } from './controller-state.ts';

await withBackend('postgres', (address) =>
  describeControllerState('postgres', {
    create: async () => {
      const { network, connect, dispose } = await proxiedDatabase(address);
      return {
        open: async () => new PostgresControllerState({ database: connect({ poolSize: 2 }) }),
        break: async () => network.refuse(),
        heal: async () => network.heal(),
        dispose,
      };
    },
  }),
);
