import { randomBytes } from 'node:crypto';

import { KubeAccess } from '../../../src/adapters/kube/kube-access.ts';
import { KubeClient } from '../../../src/adapters/kube/kube-client.ts';
import { PodTargetProvider } from '../../../src/adapters/kube/pod-target-provider.ts';
import { SystemClock } from '../../../src/adapters/system/clock.ts';
import type { TargetSpec } from '../../../src/domain/workspace.ts';
import type { WorkspaceTarget } from '../../../src/ports/workspace-target.ts';
import type { TestImage } from '../docker-images.ts';
import { FaultProxy } from '../fault-proxy.ts';
import { RecordingLogger } from '../recording-logger.ts';
import { recordingMetrics } from '../recording-metrics.ts';
import { workspaceAt } from '../workspaces.ts';
import { imageName } from './node-image.ts';
import type { TestNode } from './node.ts';
import { deletePod, startPod, type PodOptions } from './pod.ts';

export const CONFIG_DIR = '/configs';

export interface PodHostOptions extends Pick<PodOptions, 'container' | 'labels' | 'spec'> {
  readonly namespace: string;
  readonly image: TestImage;
  /** Whose the config directory is made. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Default root. `owner`: there is nothing in it that could become anybody else; the config directory is an `emptyDir`. */
  readonly runsAs?: 'root' | 'owner';
}

const ROOT = 'root';

/** A pod with an empty config directory, reached through a line that can be disturbed; the test itself goes past that. */
export class PodHost {
  readonly name: string;
  readonly line: FaultProxy;
  readonly provider: PodTargetProvider;
  readonly #node: TestNode;
  readonly #client: KubeClient;
  readonly #options: PodHostOptions;

  private constructor(node: TestNode, options: PodHostOptions, line: FaultProxy) {
    this.name = `pod-${randomBytes(4).toString('hex')}`;
    this.line = line;
    this.#node = node;
    this.#options = options;
    const { cluster } = node;
    const connection = {
      server: new URL(line.address.replace('tcp:', 'https:')),
      tls: { ca: cluster.ca },
      headers: { Authorization: `Bearer ${cluster.tokens.admin}` },
      namespace: options.namespace,
    };
    const clock = new SystemClock();
    const access = new KubeAccess({ open: async () => async () => connection, clock });
    this.#client = new KubeClient({ access, clock });
    this.provider = new PodTargetProvider({
      allowed: {},
      client: this.#client,
      logger: new RecordingLogger(),
      metrics: recordingMetrics(),
    });
  }

  static async create(node: TestNode, options: PodHostOptions): Promise<PodHost> {
    const line = await FaultProxy.open(node.cluster.server.replace('https:', 'tcp:'), 'tcp');
    const host = new PodHost(node, options, line);
    const { owner, runsAs = 'root', ...pod } = options;
    await startPod(node, { name: host.name, ...pod, ...(runsAs === 'owner' ? unprivileged(options) : {}) });
    await host.exec(['chown', `${owner.uid}:${owner.gid}`, CONFIG_DIR]);
    return host;
  }

  locate(pod: Extract<TargetSpec, { readonly pod: unknown }>['pod'] = { name: this.name }): Promise<WorkspaceTarget> {
    const workspace = workspaceAt({ pod }, { namespace: this.#options.namespace });
    return this.provider.locate(workspace, new AbortController().signal);
  }

  /** As root, past everything that is tested; answers stdout. */
  exec(argv: readonly string[]): Promise<string> {
    const container = this.#options.runsAs === 'owner' ? ROOT : 'main';
    return this.#node.cluster.kubectl([
      '-n',
      this.#options.namespace,
      'exec',
      this.name,
      '-c',
      container,
      '--',
      ...argv,
    ]);
  }

  /** The same for a script of the shell, as somebody; of the image `debian` only, unless that is root. */
  shell(script: string, { uid, gid }: PodHostOptions['owner']): Promise<string> {
    const become = uid === 0 ? [] : ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', '--'];
    return this.exec([...become, 'sh', '-euc', script]);
  }

  async delete(): Promise<void> {
    await deletePod(this.#node, this.#options.namespace, this.name);
  }

  async close(): Promise<void> {
    await this.provider.close();
    this.#client.close();
    await this.line.close();
    await this.delete().catch(() => undefined);
  }
}

/** Beside it runs a container that may do what the other may not. */
function unprivileged({ image, owner }: PodHostOptions): Pick<PodOptions, 'container' | 'spec'> {
  const mounted = { volumeMounts: [{ name: 'configs', mountPath: CONFIG_DIR }] };
  return {
    container: { ...mounted, securityContext: { runAsUser: owner.uid, runAsGroup: owner.gid } },
    spec: {
      volumes: [{ name: 'configs', emptyDir: {} }],
      initContainers: [
        {
          ...mounted,
          name: ROOT,
          image: imageName(image),
          imagePullPolicy: 'Never',
          restartPolicy: 'Always',
          securityContext: { privileged: true },
        },
      ],
    },
  };
}
