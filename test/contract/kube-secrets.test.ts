import { KubeSecrets } from '../../src/adapters/kube/kube-secrets.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { withBackend } from '../support/backend.ts';
import { proxiedNamespace } from '../support/kube/proxied-namespace.ts';
import { describeSecretResolver } from './secret-resolver.ts';

const NAME = 'plugset-test';
const REFERENCE = { scheme: 'secret', name: NAME, key: 'token' } as const;

await withBackend('kubernetes', (directory) =>
  describeSecretResolver('Secrets of the namespace', {
    async create() {
      const { cluster, namespace, network, connect, dispose } = await proxiedNamespace(directory);
      const path = `/api/v1/namespaces/${namespace}/secrets`;
      const remove = async (): Promise<void> => {
        await cluster.call('DELETE', `${path}/${NAME}`).catch(() => undefined);
      };
      const workspace = workspaceKey(namespace, 'alice');
      return {
        resolver: new KubeSecrets({ client: connect() }),
        workspace,
        reference: REFERENCE,
        forbidden: [
          // A Secret of this name lies in `namespace`; from another one nothing leads there.
          { workspace: workspaceKey(`not-${namespace}`.slice(0, 63), 'alice'), reference: REFERENCE },
          { workspace, reference: { scheme: 'file', path: '/etc/hostname' } },
          { workspace, reference: { scheme: 'env', variable: 'PATH' } },
        ],
        async put(value) {
          await remove();
          const data = { token: Buffer.from(value).toString('base64') };
          await cluster.call('POST', path, {
            body: { apiVersion: 'v1', kind: 'Secret', metadata: { name: NAME }, data },
          });
        },
        remove,
        break: async () => network.refuse(),
        dispose,
      };
    },
  }),
);
