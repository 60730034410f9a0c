import { randomBytes } from 'node:crypto';

import type Docker from 'dockerode';

import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { PluginHostBackend } from '../contract/plugin-host.ts';
import type { TestContainers } from './docker-containers.ts';
import type { TestImage } from './docker-images.ts';
import { RecordingLogger } from './recording-logger.ts';
import { workspaceAt } from './workspaces.ts';

const CONFIG_DIR = '/configs';

export interface ContainerHostOptions {
  readonly image: TestImage;
  readonly owner: { readonly uid: number; readonly gid: number };
  /** `own`: the config directory is a tmpfs of 1 MiB that can be sealed. */
  readonly disk: 'shared' | 'own';
}

/** A container of its own with an empty config directory, found as a workspace's is. */
export async function createContainerHost(
  address: string,
  containers: TestContainers,
  { image, owner, disk }: ContainerHostOptions,
): Promise<PluginHostBackend & { readonly container: Docker.Container }> {
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
    container,
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
