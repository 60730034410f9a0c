import { randomBytes } from 'node:crypto';

import { afterAll } from 'vitest';

import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import { withBackend } from '../support/backend.ts';
import { TestContainers } from '../support/docker-containers.ts';
import type { TestImage } from '../support/docker-images.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { workspaceAt } from '../support/workspaces.ts';
import { describePluginHost, type PluginHostBackend } from './plugin-host.ts';

const CONFIG_DIR = '/configs';

interface Place {
  readonly image: TestImage;
  readonly owner: { readonly uid: number; readonly gid: number };
  readonly disk: 'shared' | 'own';
}

const ROOT = { uid: 0, gid: 0 };
const AGENT = { uid: 1000, gid: 1000 };
const APPLETS_WIN = {
  'a target without tar is named by apply, one without sha256sum by look too':
    'its shell runs its own applets, whatever the PATH says',
};

await withBackend('docker', (address) => {
  const containers = new TestContainers(address);
  afterAll(() => containers.removeAll());
  const place = (image: TestImage, owner: Place['owner']) => (disk: Place['disk']) =>
    createContainerHost(address, containers, { image, owner, disk });

  describePluginHost('docker, busybox, /configs of root', {
    create: place('busybox', ROOT),
    unsupported: { ...APPLETS_WIN, 'a tree of somebody else fails alone and stays as it is': 'root may move it' },
  });
  describePluginHost('docker, busybox, /configs of the agent', {
    create: place('busybox', AGENT),
    unsupported: APPLETS_WIN,
  });
  describePluginHost('docker, debian, /configs of the agent', { create: place('debian', AGENT) });
});

async function createContainerHost(
  address: string,
  containers: TestContainers,
  { image, owner, disk }: Place,
): Promise<PluginHostBackend> {
  const id = `t${randomBytes(8).toString('hex')}`;
  const tmpfs = { Tmpfs: { [CONFIG_DIR]: 'size=1m,nr_inodes=400,mode=755' } };
  const container = await containers.create({
    image,
    labels: { 'plugset.dev/workspace': id },
    // A container as such may not make a mount read-only.
    host: disk === 'own' ? { ...tmpfs, CapAdd: ['SYS_ADMIN'] } : {},
  });
  const as = `${owner.uid}:${owner.gid}`;
  await containers.exec(container, ['chown', as, CONFIG_DIR]);
  const engines = [{ name: 'default', address }];
  const provider = new DockerTargetProvider({ engines, clock: new SystemClock(), logger: new RecordingLogger() });
  return {
    host: new ScriptedPluginHost(),
    target: await provider.locate(workspaceAt({ docker: {} }, { id }), new AbortController().signal),
    configDir: CONFIG_DIR,
    owner,
    shell: (script, who = 'agent') =>
      containers.exec(container, ['sh', '-euc', script], { directory: CONFIG_DIR, user: who === 'agent' ? as : '0:0' }),
    async hide(program) {
      await containers.exec(container, ['rm', `/bin/${program}`]);
    },
    async seal() {
      await containers.exec(container, ['mount', '-o', 'remount,ro', CONFIG_DIR]);
    },
    async dispose() {
      await provider.close();
      await container.remove({ force: true, v: true });
    },
  };
}
