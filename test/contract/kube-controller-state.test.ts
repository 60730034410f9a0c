import { KubeControllerState } from '../../src/adapters/kube/kube-controller-state.ts';
import { withBackend } from '../support/backend.ts';
import { proxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { describeControllerState } from './controller-state.ts';

await withBackend('kubernetes', (directory) =>
  describeControllerState('ConfigMaps', {
    create: async () => {
      const { namespace, network, connect, dispose } = await proxiedNamespace(directory);
      return {
        open: async () => new KubeControllerState({ client: connect(), namespace }),
        break: async () => network.refuse(),
        heal: async () => network.heal(),
        dispose,
      };
    },
  }),
);
