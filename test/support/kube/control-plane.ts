import { spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, openSync, rmSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Backend } from '../backend.ts';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { Cluster, type ClusterAddress, type ClusterUser } from './cluster.ts';

const START_MS = 120_000;

/** The groups of each, as the API server is to see them. */
const USERS: Readonly<Record<ClusterUser, string>> = {
  admin: 'system:masters',
  alice: '',
  bob: '',
  node: 'system:masters',
};

const AUDIT_POLICY = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [{ level: 'None', users: ['system:apiserver', 'node'] }, { level: 'Metadata' }],
};

/** The control plane of a test run; `bin` as `findKubePrograms` answers it. */
export async function startKubernetes(bin: string): Promise<Backend> {
  const plane = await ControlPlane.start(bin);
  const { directory, server } = plane.cluster;
  const { gitVersion } = await plane.cluster.call<{ readonly gitVersion: string }>('GET', '/version');
  return { address: directory, how: `kube-apiserver ${gitVersion} at ${server}`, stop: () => plane.stop() };
}

/**
 * A real kube-apiserver and its etcd on loopback: one for a whole run, or one for a test file that wants to see it die.
 * Nothing else runs: no scheduler, so that pods name their node, and no controller manager, so that namespaces are made and
 * removed by `namespace.ts`, nothing comes of a Deployment, and the aggregated roles (`view`, `edit`) grant nothing.
 */
export class ControlPlane {
  readonly #directory: string;
  readonly #bin: string;
  readonly #etcdUrl: string;
  readonly #port: number;
  readonly #tokens: Readonly<Record<ClusterUser, string>>;
  #etcd: ChildProcess | undefined;
  #apiServer: ChildProcess | undefined;
  #cluster: Cluster | undefined;

  private constructor(directory: string, bin: string, ports: { readonly etcd: number; readonly apiServer: number }) {
    this.#directory = directory;
    this.#bin = bin;
    this.#etcdUrl = `http://127.0.0.1:${ports.etcd}`;
    this.#port = ports.apiServer;
    const token = (): string => randomBytes(16).toString('hex');
    this.#tokens = { admin: token(), alice: token(), bob: token(), node: token() };
  }

  /** `bin` as `findKubePrograms('etcd', 'kube-apiserver', 'kubectl')` answers it. */
  static async start(bin: string): Promise<ControlPlane> {
    const ports = { etcd: await freePort(), apiServer: await freePort() };
    const plane = new ControlPlane(await mkdtemp(join(tmpdir(), 'plugset-kube-')), bin, ports);
    process.once('exit', plane.#endNow);
    try {
      await plane.#writeFiles();
      await plane.#startEtcd();
      await plane.startApiServer();
      return plane;
    } catch (error) {
      await plane.stop();
      throw error;
    }
  }

  get cluster(): Cluster {
    if (this.#cluster === undefined) throw new Error('the API server has never been up');
    return this.#cluster;
  }

  /** Ends the API server at once, in the middle of whatever it does; etcd goes on. */
  async killApiServer(): Promise<void> {
    await kill(this.#apiServer);
  }

  /** Starts it, again after {@link killApiServer}, under the same address, and waits until it says that it is ready. */
  async startApiServer(): Promise<void> {
    const child = await launch(
      join(this.#bin, 'kube-apiserver'),
      this.#apiServerFlags(),
      this.#path('kube-apiserver.log'),
    );
    this.#apiServer = child;
    await this.#whenUp(child, 'kube-apiserver', async () => {
      this.#cluster ??= await this.#writeAddress();
      await this.#cluster.ask('GET', '/readyz');
    });
  }

  /** Starts it anew with another certificate, which is its own authority: `cluster` and the files beside it say so from then on. */
  async renewCertificate(): Promise<void> {
    await this.killApiServer();
    await rm(this.#path('certificates'), { recursive: true });
    this.#cluster = undefined;
    await this.startApiServer();
  }

  /** From now on it says nothing; its connections stay open, and the kernel still takes what is sent to it. */
  freezeApiServer(): void {
    this.#apiServer?.kill('SIGSTOP');
  }

  thawApiServer(): void {
    this.#apiServer?.kill('SIGCONT');
  }

  /**
   * Forgets in etcd everything that was before now, and answers the resource version of now. The API server remembers
   * some of it by itself until it is started again: only then does a watch from before get its 410, and one that has heard
   * everything gets it too, for there is something after that.
   */
  async compactEtcd(): Promise<number> {
    const key = Buffer.from('/test/compaction').toString('base64');
    const { header } = await this.#askEtcd<PutResponse>('kv/put', { key });
    await this.#askEtcd('kv/compaction', { revision: header.revision, physical: true });
    return Number(header.revision);
  }

  /** Ends both and removes what they wrote. */
  async stop(): Promise<void> {
    // Nobody will miss the data: asking politely would only take longer, and one that is frozen would not hear it.
    await Promise.all([kill(this.#apiServer), kill(this.#etcd)]);
    await rm(this.#directory, { recursive: true, force: true, maxRetries: 3 });
    process.off('exit', this.#endNow);
  }

  /** For a process that ends without having called `stop`: only synchronous calls are left. */
  readonly #endNow = (): void => {
    for (const child of [this.#apiServer, this.#etcd]) child?.kill('SIGKILL');
    try {
      rmSync(this.#directory, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // One of them made a file while it was removed.
    }
  };

  async #startEtcd(): Promise<void> {
    const flags = [
      `--data-dir=${this.#path('etcd')}`,
      `--listen-client-urls=${this.#etcdUrl}`,
      `--advertise-client-urls=${this.#etcdUrl}`,
      '--listen-peer-urls=http://127.0.0.1:0',
      '--unsafe-no-fsync',
      '--log-level=warn',
    ];
    const child = await launch(join(this.#bin, 'etcd'), flags, this.#path('etcd.log'));
    this.#etcd = child;
    await this.#whenUp(child, 'etcd', () => this.#askEtcd('maintenance/status', {}));
  }

  async #askEtcd<T>(method: string, body: unknown): Promise<T> {
    const response = await fetch(`${this.#etcdUrl}/v3/${method}`, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { connection: 'close' },
    });
    const said = await response.text();
    if (!response.ok) throw new Error(`etcd answers ${response.status} to ${method}: ${said}`);
    return JSON.parse(said) as T;
  }

  #apiServerFlags(): readonly string[] {
    return [
      `--etcd-servers=${this.#etcdUrl}`,
      `--cert-dir=${this.#path('certificates')}`,
      '--bind-address=127.0.0.1',
      `--secure-port=${this.#port}`,
      // It would look for a route to the world else, and tell the cluster's services of it.
      '--advertise-address=127.0.0.1',
      '--endpoint-reconciler-type=none',
      `--service-account-issuer=https://127.0.0.1:${this.#port}`,
      `--service-account-key-file=${this.#path('service-accounts.key')}`,
      `--service-account-signing-key-file=${this.#path('service-accounts.key')}`,
      '--service-cluster-ip-range=10.0.0.0/24',
      `--token-auth-file=${this.#path('tokens.csv')}`,
      '--authorization-mode=RBAC',
      '--allow-privileged',
      '--kubelet-preferred-address-types=InternalIP',
      `--audit-policy-file=${this.#path('audit-policy.json')}`,
      `--audit-log-path=${this.#path('audit.log')}`,
      '--audit-log-maxsize=10000',
    ];
  }

  async #writeFiles(): Promise<void> {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    await writeFile(this.#path('service-accounts.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }));
    const lines = Object.entries(USERS).map(
      ([user, groups]) => `${this.#tokens[user as ClusterUser]},${user},${user},"${groups}"\n`,
    );
    await writeFile(this.#path('tokens.csv'), lines.join(''));
    await writeFile(this.#path('audit-policy.json'), JSON.stringify(AUDIT_POLICY));
  }

  /** What others need to know to reach it; its certificate is its own work, made when it starts for the first time. */
  async #writeAddress(): Promise<Cluster> {
    const address: ClusterAddress = {
      server: `https://127.0.0.1:${this.#port}`,
      ca: await readFile(this.#path('certificates/apiserver.crt'), 'utf8'),
      tokens: this.#tokens,
      kubectl: join(this.#bin, 'kubectl'),
    };
    await writeFile(this.#path('cluster.json'), JSON.stringify(address));
    const cluster = await Cluster.at(this.#directory);
    await writeFile(this.#path('admin.kubeconfig'), cluster.kubeconfig('admin'));
    return cluster;
  }

  async #whenUp(child: ChildProcess, name: string, check: () => Promise<unknown>): Promise<void> {
    try {
      await eventually(async () => {
        if (hasEnded(child)) throw new Error('it ended at once');
        await check();
      }, START_MS);
    } catch (error) {
      const log = await readFile(this.#path(`${name}.log`), 'utf8').catch(() => '');
      throw new Error(`${name} did not start:\n${log.slice(-3000)}`, { cause: error });
    }
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

interface PutResponse {
  readonly header: { readonly revision: string };
}

/** Where there is something that makes the kernel end a program, however the one dies that started it. */
const LEASH = process.platform === 'linux' ? ['setpriv', '--pdeathsig=KILL'] : [];

/** In a group of its own: the Ctrl-C of a terminal must not reach a server before those that use it have let go of it. */
async function launch(program: string, flags: readonly string[], log: string): Promise<ChildProcess> {
  const fd = openSync(log, 'a');
  const [first = program, ...args] = [...LEASH, program, ...flags];
  const child = spawn(first, args, { cwd: '/', detached: true, stdio: ['ignore', fd, fd] });
  closeSync(fd);
  await once(child, 'spawn');
  return child;
}

async function kill(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || hasEnded(child)) return;
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}
