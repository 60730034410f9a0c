import { afterAll, beforeAll } from 'vitest';

import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import { withBackend } from '../support/backend.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { CONFIG_DIR, PodHost, type PodHostOptions } from '../support/kube/pod-host.ts';
import { describePluginHost, type PluginHostBackend } from './plugin-host.ts';

const ROOT = { uid: 0, gid: 0 };
const AGENT = { uid: 1000, gid: 1000 };
const APPLETS_WIN = {
  'a target without tar is named by apply, one without sha256sum by look too':
    'its shell runs its own applets, whatever the PATH says',
};

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  let namespace: string;
  beforeAll(async () => {
    namespace = await createNamespace(node.cluster);
  });
  afterAll(() => removeNamespace(node.cluster, namespace));

  const createBackend = async (
    disk: 'shared' | 'own',
    options: Omit<PodHostOptions, 'namespace'>,
  ): Promise<PluginHostBackend> => {
    const { owner } = options;
    const host = await PodHost.create(node, {
      namespace,
      // A container as such may mount nothing.
      ...(disk === 'own' ? { container: { securityContext: { capabilities: { add: ['SYS_ADMIN'] } } } } : {}),
      ...options,
    });
    const as = `uid=${owner.uid},gid=${owner.gid}`;
    if (disk === 'own')
      await host.exec(['mount', '-t', 'tmpfs', '-o', `size=1m,nr_inodes=400,mode=755,${as}`, 'own', CONFIG_DIR]);
    const target = await host.locate();
    return {
      host: new ScriptedPluginHost(),
      target,
      configDir: CONFIG_DIR,
      owner,
      shell: (script, who = 'agent') => host.shell(`cd ${CONFIG_DIR}; ${script}`, who === 'agent' ? owner : ROOT),
      hide: async (program) => void (await host.exec(['rm', `/bin/${program}`])),
      seal: async () => void (await host.exec(['mount', '-o', 'remount,ro', CONFIG_DIR])),
      dispose: () => host.close(),
    };
  };

  describePluginHost('pod, busybox, /configs of root', {
    create: (disk) => createBackend(disk, { image: 'busybox', owner: ROOT }),
    unsupported: { ...APPLETS_WIN, 'a tree of somebody else fails alone and stays as it is': 'root may move it' },
  });
  describePluginHost('pod, debian, /configs of the agent', {
    create: (disk) => createBackend(disk, { image: 'debian', owner: AGENT }),
  });
});
