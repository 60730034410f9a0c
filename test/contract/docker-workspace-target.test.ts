import { afterAll } from 'vitest';

import { DockerTargetProvider, type ReachedEngine } from '../../src/adapters/docker/docker-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { FaultProxy } from '../support/fault-proxy.ts';
import { RemoteEngines } from '../support/remote-engines.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { describeWorkspaceTarget, type WorkspaceTargetBackend } from './workspace-target.ts';
import type { TestImage } from '../support/docker-images.ts';

const OWNER = { uid: 1000, gid: 1000 };

await withBackend('docker', async (address) => {
  const containers = new TestContainers(address);
  afterAll(() => containers.removeAll());

  // Ends and resets of a connection look different on the two kinds of sockets.
  const fronts = { busybox: 'unix', debian: 'tcp' } as const;
  for (const image of ['busybox', 'debian'] as const) {
    const create = async (): Promise<WorkspaceTargetBackend> => {
      const line = await FaultProxy.open(address, fronts[image]);
      return createBackend({ address: line.address, line, close: () => line.close() }, containers, image);
    };
    describeWorkspaceTarget(`docker, ${image}, ${fronts[image]}`, { create });
  }

  await withBackend('sshd', (sshd) => {
    const create = async (): Promise<WorkspaceTargetBackend> => {
      const remote = await RemoteEngines.open(sshd);
      return createBackend({ ...remote.reach(address), line: remote.line, close: () => remote.close() }, containers);
    };
    describeWorkspaceTarget('docker, debian, over SSH', { create });
  });
});

interface Way extends Pick<ReachedEngine, 'address' | 'dialer'> {
  /** What can be disturbed on it. */
  readonly line: FaultProxy;
  close(): Promise<void>;
}

async function createBackend(
  { address, dialer, line, close }: Way,
  containers: TestContainers,
  image: TestImage = 'debian',
): Promise<WorkspaceTargetBackend> {
  const id = `t${Math.random().toString(36).slice(2)}`;
  const container = await containers.create({ image, labels: { 'plugset.dev/workspace': id } });
  await containers.exec(container, ['chown', `${OWNER.uid}:${OWNER.gid}`, '/configs']);
  const provider = new DockerTargetProvider({
    engines: [{ name: 'default', address, dialer }],
    clock: new SystemClock(),
    logger: new RecordingLogger(),
  });
  return {
    locate: () => provider.locate(workspaceAt({ docker: {} }, { id }), new AbortController().signal),
    configDir: '/configs',
    owner: OWNER,
    observerUid: 0,
    async exists(name) {
      const answer = container.infoArchive({ path: `/configs/${name}` }) as Promise<NodeJS.ReadableStream>;
      return answer.then(
        (response) => Boolean(response.resume()),
        () => false,
      );
    },
    async commandLines() {
      const { Processes } = (await container.top({ ps_args: '-eo pid,args' })) as { Processes: string[][] };
      return Processes.map((row) => row.join(' '));
    },
    remove: () => container.remove({ force: true, v: true }) as Promise<void>,
    cut: () => line.cut(),
    blackHole: () => line.blackHole(),
    refuse: () => line.refuse(),
    async dispose() {
      await provider.close();
      await close();
      await container.remove({ force: true, v: true }).catch(() => undefined);
    },
  };
}
