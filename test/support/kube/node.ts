import { randomBytes, randomInt } from 'node:crypto';
import { access, copyFile, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { Backend } from '../backend.ts';
import { findBusybox } from '../docker-images.ts';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { Machine } from '../machine/machine.ts';
import { Cluster } from './cluster.ts';
import { imageName, writeImageArchive } from './node-image.ts';
import { findKubePrograms } from './programs.ts';

const START_MS = 120_000;
const CGROUPS = '/sys/fs/cgroup';

const NEEDED = [
  ['/usr/bin/containerd', 'containerd'],
  ['/usr/bin/ctr', 'containerd'],
  ['/usr/sbin/runc', 'runc'],
  ['/usr/lib/cni/ptp', 'containernetworking-plugins'],
  ['/usr/bin/nsenter', 'util-linux'],
] as const;

/** Whether tests may start nodes of their own; answers the directory of the kubelet. */
export async function findKubelet(): Promise<Backend> {
  if (process.platform !== 'linux') return { missing: 'a kubelet runs on Linux only' };
  if (process.getuid?.() !== 0) return { missing: 'only root can start a kubelet' };
  if (findBusybox() === undefined)
    return { missing: 'a static busybox to make images of (Debian: apt install busybox-static)' };
  for (const [path, debianPackage] of NEEDED) {
    if (!(await exists(path))) return { missing: `there is no ${path} (Debian: apt install ${debianPackage})` };
  }
  return findKubePrograms('kubelet');
}

/** A node of the run's cluster. */
export async function startNode(clusterDirectory: string, bin: string): Promise<Backend> {
  const node = await KubeNode.start(await Cluster.at(clusterDirectory), bin);
  const address: NodeAddress = { cluster: clusterDirectory, node: node.name };
  return { address: JSON.stringify(address), how: `kubelet and containerd as ${node.name}`, stop: () => node.stop() };
}

interface NodeAddress {
  readonly cluster: string;
  readonly node: string;
}

/** Where pods can run. */
export interface TestNode {
  readonly cluster: Cluster;
  readonly name: string;
}

/** Takes the address of the back end `node` apart. */
export async function nodeAt(address: string): Promise<TestNode> {
  const { cluster, node } = JSON.parse(address) as NodeAddress;
  return { cluster: await Cluster.at(cluster), name: node };
}

/**
 * A real kubelet on containerd. They run on a {@link Machine}, so that whatever they start or mount is gone with it. It shares
 * the network of this machine: the API server and the kubelet reach each other on loopback, and so do pods with `hostNetwork`;
 * other pods have addresses that only this machine can reach.
 */
export class KubeNode implements TestNode {
  readonly cluster: Cluster;
  readonly name: string;
  readonly #machine: Machine;

  private constructor(cluster: Cluster, name: string, machine: Machine) {
    this.cluster = cluster;
    this.name = name;
    this.#machine = machine;
  }

  /** `bin` as {@link findKubelet} answers it. */
  static async start(cluster: Cluster, bin: string): Promise<KubeNode> {
    const name = `node-${randomBytes(4).toString('hex')}`;
    const node = new KubeNode(cluster, name, await Machine.boot(name, '4g'));
    try {
      await node.#startContainerd();
      await node.#startKubelet(bin);
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  /** Makes the image of a `docker save` known to it. */
  async importImage(archive: string): Promise<void> {
    const inside = `/tmp/${randomBytes(4).toString('hex')}.tar`;
    await copyFile(archive, this.#path(inside));
    await this.#importImage(inside);
  }

  /** Stops the kubelet, containerd and every pod where they stand. */
  async freeze(): Promise<void> {
    await this.#machine.freeze();
  }

  async thaw(): Promise<void> {
    await this.#machine.thaw();
  }

  /** Ends everything that runs on it, as a power cut would; its objects in the cluster stay. */
  async stop(): Promise<void> {
    const containers = await readdir(this.#path('/run/containerd/io.containerd.runtime.v2.task/k8s.io')).catch(
      () => [],
    );
    await this.#machine.destroy();
    await removeCgroups(containers);
  }

  async #startContainerd(): Promise<void> {
    await this.#keepKernelSettings();
    await this.#write('/etc/containerd/config.toml', CONTAINERD_CONFIG);
    await this.#write('/etc/cni/net.d/10-test.conflist', JSON.stringify(podNetwork()));
    await this.#launch('containerd', ['containerd']);
    await this.#whenUp('containerd', () => this.#machine.exec(['ctr', 'version']));
    for (const image of ['busybox', 'debian'] as const) {
      await writeImageArchive(image, this.#path(`/tmp/${image}.tar`));
      await this.#importImage(`/tmp/${image}.tar`);
    }
  }

  async #startKubelet(bin: string): Promise<void> {
    await copyFile(join(bin, 'kubelet'), this.#path('/opt/kubelet'));
    await this.#write('/var/lib/kubelet/config.json', JSON.stringify(kubeletConfig(await freePort())));
    await this.#write('/var/lib/kubelet/kubeconfig', this.cluster.kubeconfig('node'));
    await this.#launch('kubelet', [
      '/opt/kubelet',
      '--config=/var/lib/kubelet/config.json',
      '--kubeconfig=/var/lib/kubelet/kubeconfig',
      `--hostname-override=${this.name}`,
      // It refuses a loopback address of its own, and takes the one it is told by whoever claims to be the cloud.
      '--cloud-provider=external',
    ]);
    const path = `/api/v1/nodes/${this.name}`;
    await this.#whenUp('kubelet', () => this.cluster.call('GET', path));
    await this.cluster.call('PATCH', `${path}/status`, {
      contentType: 'application/merge-patch+json',
      body: { status: { addresses: [{ type: 'InternalIP', address: '127.0.0.1' }] } },
    });
    await this.#whenUp('kubelet', async () => {
      const { status } = await this.cluster.call<NodeObject>('GET', path);
      const ready = status.conditions.find(({ type }) => type === 'Ready');
      if (ready?.status !== 'True') throw new Error(`the node is not ready: ${ready?.message}`);
    });
  }

  /** kubelet and the network plug-ins would set them for the whole machine; what they find set already they leave alone. */
  async #keepKernelSettings(): Promise<void> {
    await this.#machine.shell(`
      mkdir -p /run/settings && cd /run/settings
      for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \\
        kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000 net/ipv4/ip_forward=1; do
        mkdir -p "\${setting%/*}"
        echo "\${setting#*=}" >"\${setting%=*}"
        mount --bind "\${setting%=*}" "/proc/sys/\${setting%=*}"
      done`);
  }

  async #importImage(inside: string): Promise<void> {
    await this.#machine.exec(['ctr', '-n', 'k8s.io', 'images', 'import', '--snapshotter', 'native', inside]);
    await this.#machine.exec(['rm', inside]);
  }

  async #launch(name: string, command: readonly string[]): Promise<void> {
    await this.#machine.shell(
      `log=$1; shift; setsid -f "$@" >"$log" 2>&1 </dev/null`,
      `/var/log/${name}.log`,
      ...command,
    );
  }

  async #whenUp(name: string, check: () => Promise<unknown>): Promise<void> {
    try {
      await eventually(check, START_MS);
    } catch (error) {
      const log = await readFile(this.#path(`/var/log/${name}.log`), 'utf8').catch(() => '');
      throw new Error(`${name} did not start:\n${log.slice(-3000)}`, { cause: error });
    }
  }

  async #write(path: string, content: string): Promise<void> {
    await mkdir(this.#path(join(path, '..')), { recursive: true });
    await writeFile(this.#path(path), content);
  }

  #path(inside: string): string {
    return `${this.#machine.root}${inside}`;
  }
}

interface NodeObject {
  readonly status: {
    readonly conditions: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

// Without `restrict_oom_score_adj` runc dies where root may not lower it: "can't get final child's PID from pipe: EOF".
const CONTAINERD_CONFIG = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  disable_apparmor = true
  sandbox_image = "${imageName('busybox')}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`;

/** A pair of devices for each pod, which goes with the pod, and nothing for the node. Two nodes must not hand out the same. */
function podNetwork(): object {
  const subnet = `198.${randomInt(18, 20)}.${randomInt(0, 256)}.0/24`;
  const ipam = { type: 'host-local', ranges: [[{ subnet }]], routes: [{ dst: '0.0.0.0/0' }] };
  return { cniVersion: '0.4.0', name: 'test', plugins: [{ type: 'ptp', ipMasq: false, ipam }] };
}

function kubeletConfig(port: number): object {
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    address: '127.0.0.1',
    port,
    healthzPort: 0,
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: 'AlwaysAllow' },
    containerRuntimeEndpoint: 'unix:///run/containerd/containerd.sock',
    resolvConf: '',
    // Whichever cgroups this machine has, and however its disks look.
    failCgroupV1: false,
    cgroupDriver: 'cgroupfs',
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    localStorageCapacityIsolation: false,
    failSwapOn: false,
    evictionHard: { 'memory.available': '1Mi', 'nodefs.available': '0%', 'imagefs.available': '0%' },
    imageGCHighThresholdPercent: 100,
    // The rules of this machine's firewall stay as they are.
    makeIPTablesUtilChains: false,
  };
}

/** What runc would have removed, had it been asked to end them. The kernel may still be burying what ran in them. */
async function removeCgroups(containers: readonly string[]): Promise<void> {
  const hierarchies = [CGROUPS, ...(await readdir(CGROUPS)).map((name) => join(CGROUPS, name))];
  for (const hierarchy of hierarchies) {
    for (const id of containers) {
      await eventually(async () => {
        await rmdir(join(hierarchy, 'k8s.io', id)).catch(ignoreMissing);
      });
    }
    // It stays where others have something in it.
    await rmdir(join(hierarchy, 'k8s.io')).catch(() => undefined);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
