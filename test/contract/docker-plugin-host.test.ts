import { afterAll } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { createContainerHost, type ContainerHostOptions } from '../support/container-host.ts';
import { TestContainers } from '../support/docker-containers.ts';
import { describePluginHost } from './plugin-host.ts';

const ROOT = { uid: 0, gid: 0 };
const AGENT = { uid: 1000, gid: 1000 };
const APPLETS_WIN = {
  'a target without tar is named by apply, one without sha256sum by look too':
    'its shell runs its own applets, whatever the PATH says',
};

await withBackend('docker', (address) => {
  const containers = new TestContainers(address);
  afterAll(() => containers.removeAll());
  const place =
    (image: ContainerHostOptions['image'], owner: ContainerHostOptions['owner']) =>
    (disk: ContainerHostOptions['disk']) =>
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
