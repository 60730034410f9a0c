import { afterAll, beforeAll, expect } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import type { TestImage } from '../support/docker-images.ts';
import { createNamespace, removeNamespace } from '../support/kube/namespace.ts';
import { nodeAt } from '../support/kube/node.ts';
import { CONFIG_DIR, PodHost } from '../support/kube/pod-host.ts';
import { describeWorkspaceTarget, type WorkspaceTargetBackend } from './workspace-target.ts';

const OWNER = { uid: 1000, gid: 1000 };
const NO_FILES = 'what the API server says of a pod says nothing of its files';

await withBackend('node', async (address) => {
  const node = await nodeAt(address);
  let namespace: string;
  beforeAll(async () => {
    namespace = await createNamespace(node.cluster);
  });
  afterAll(() => removeNamespace(node.cluster, namespace));

  const createBackend = async (image: TestImage): Promise<WorkspaceTargetBackend> => {
    const host = await PodHost.create(node, { namespace, image, owner: OWNER });
    return {
      locate: () => host.locate(),
      configDir: CONFIG_DIR,
      owner: OWNER,
      observerUid: 0,
      exists: (name) =>
        host.exec(['test', '-e', `${CONFIG_DIR}/${name}`]).then(
          () => true,
          () => false,
        ),
      commandLines: async () => (await host.exec(['ps', '-eo', 'pid,args'])).split('\n'),
      async remove() {
        await host.delete();
        // The news of it travels beside the answer to whoever deleted it.
        await eventually(() => expect(host.locate()).rejects.toMatchObject({ reason: 'WorkspaceNotFound' }));
      },
      cut: () => host.line.cut(),
      blackHole: () => host.line.blackHole(),
      refuse: () => host.line.refuse(),
      dispose: () => host.close(),
    };
  };

  for (const image of ['busybox', 'debian'] as const) {
    describeWorkspaceTarget(`pod, ${image}`, {
      create: () => createBackend(image),
      unsupported: {
        'gives another token after a plugin or a receipt came or went': NO_FILES,
        'gives no token for a place that is not there': NO_FILES,
      },
    });
  }
});
