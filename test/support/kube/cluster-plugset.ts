import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { stringify } from 'yaml';

import { openApp, type App, type AppOptions } from '../../../src/app.ts';
import { configFrom, type Config } from '../../../src/config.ts';
import { findCondition } from '../../../src/domain/condition.ts';
import type { WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION, REQUESTED_AT_ANNOTATION } from '../../../src/domain/workspace.ts';
import { eventually } from '../eventually.ts';
import { writePlugin } from '../plugset.ts';
import { RecordingLogger } from '../recording-logger.ts';
import { ClusterError, type Cluster } from './cluster.ts';
import { workspacesIn } from './workspace-crd.ts';

export interface ClusterPlugsetOptions {
  readonly cluster: Cluster;
  /** As whom it asks. */
  readonly token: string;
  /** Where it asks, if that is something before the API server. */
  readonly server?: URL;
  /** Where it keeps what it remembers. */
  readonly stateNamespace: string;
  /** Whose workspaces it reads; left out: all. */
  readonly namespaces?: readonly string[];
  /** Sections of its configuration file, as an operator writes them, made once its directories are known. */
  readonly settings?: (dirs: ClusterPlugset['dirs']) => object;
  readonly parts?: AppOptions;
  /** Left out: a daemon runs from the start. */
  readonly idle?: boolean;
}

interface WorkspaceObject {
  readonly metadata: { readonly generation: number; readonly finalizers?: readonly string[] };
  readonly status?: WorkspaceStatus;
}

/** A daemon in this process that reads custom resources, told by a configuration file. Everything that it writes is in one directory. */
export interface ClusterPlugset {
  readonly app: App;
  readonly config: Config;
  readonly logger: RecordingLogger;
  readonly dirs: Readonly<Record<'registry' | 'root', string>>;
  release(plugin: string, content: string): Promise<void>;
  /** Starts the daemon of one that is idle. */
  run(): void;
  /** What a daemon answers at this path of its own, `/metrics` or `/livez`, once it listens. */
  read(path: string): Promise<string>;
  stop(): Promise<void>;
}

export async function startClusterPlugset(options: ClusterPlugsetOptions): Promise<ClusterPlugset> {
  const { cluster, token, server, stateNamespace, namespaces, settings = () => ({}), parts } = options;
  const base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-cluster-')));
  const dirs = { registry: join(base, 'registry'), root: join(base, 'root') };
  for (const dir of Object.values(dirs)) await mkdir(dir);
  const kubeconfig = join(base, 'kubeconfig');
  await writeFile(kubeconfig, cluster.kubeconfig({ token }, stateNamespace, server), { mode: 0o600 });
  const file = join(base, 'plugset.yaml');
  const text = stringify({
    apiVersion: API_VERSION,
    kind: 'Configuration',
    kubernetes: { kubeconfig },
    store: { kubernetes: namespaces === undefined ? {} : { namespaces } },
    sources: { registries: [dirs.registry], cacheDirectory: join(base, 'cache'), resolveInterval: '1s' },
    limits: { probeInterval: '1s', deepInterval: '3s', grace: '10s' },
    activation: { restartsPerHour: 0 },
    telemetry: { listen: '127.0.0.1:0' },
    ...settings(dirs),
  });
  await writeFile(file, text);
  const config = configFrom({ config: file });
  const logger = new RecordingLogger();
  const app = await openApp(config, logger, parts);
  const stop = new AbortController();
  let onListening: (url: string) => void = () => undefined;
  const listening = new Promise<string>((resolve) => (onListening = resolve));
  let running = Promise.resolve();
  const run = (): void => void (running = app.run(stop.signal, { onListening }));
  if (options.idle !== true) run();
  return {
    app,
    config,
    logger,
    dirs,
    release: (plugin, content) =>
      writePlugin(join(dirs.registry, plugin), { 'plugin.yaml': `name: ${plugin}\n`, 'SKILL.md': content }),
    run,
    read: async (path) => (await fetch(new URL(path, await listening))).text(),
    stop: async () => {
      stop.abort(new Error('the test is over'));
      await running;
      await app.close();
      await rm(base, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/** The workspaces of one namespace, as people see them. */
export class NamespaceWorkspaces {
  readonly #cluster: Cluster;
  readonly #path: string;

  constructor(cluster: Cluster, namespace: string) {
    this.#cluster = cluster;
    this.#path = workspacesIn(namespace);
  }

  async declare(name: string, target: object, plugins: readonly string[], spec: object = {}): Promise<void> {
    const body = {
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name },
      spec: {
        runtime: 'claude-code',
        target,
        plugins: plugins.map((plugin) => ({ name: plugin, source: `local://${plugin}` })),
        ...spec,
      },
    };
    await this.#cluster.call('PATCH', `${this.#path}/${name}?fieldManager=people&force=true`, {
      body,
      contentType: 'application/apply-patch+yaml',
    });
  }

  /** Asks for a pass now. */
  async request(name: string): Promise<void> {
    await this.#cluster.call('PATCH', `${this.#path}/${name}`, {
      body: { metadata: { annotations: { [REQUESTED_AT_ANNOTATION]: `test-${Math.random()}` } } },
      contentType: 'application/merge-patch+json',
    });
  }

  /** Waits until `check` holds for the object, and answers its status. */
  async until(
    name: string,
    check: (status: WorkspaceStatus, object: WorkspaceObject) => void,
    deadlineMs = 60_000,
  ): Promise<WorkspaceStatus> {
    return eventually(async () => {
      const object = await this.#cluster.call<WorkspaceObject>('GET', `${this.#path}/${name}`);
      if (object.status?.conditions === undefined) throw new Error(`nobody has worked on ${name} yet`);
      check(object.status, object);
      return object.status;
    }, deadlineMs);
  }

  /** Waits until its newest generation is as declared. */
  async untilReady(name: string, deadlineMs?: number): Promise<WorkspaceStatus> {
    const check = ({ conditions }: WorkspaceStatus, { metadata }: WorkspaceObject): void => {
      const ready = findCondition(conditions, 'Ready');
      if (ready?.status !== 'True' || ready.observedGeneration !== metadata.generation)
        throw new Error(`${name} is not ready: ${JSON.stringify(conditions)}`);
    };
    return this.until(name, check, deadlineMs);
  }

  /** Deletes it, and waits until it is gone, as whoever deletes a namespace does. */
  async delete(name: string): Promise<void> {
    await this.#cluster.call('DELETE', `${this.#path}/${name}`);
    await eventually(async () => {
      const found = await this.#cluster.call('GET', `${this.#path}/${name}`).catch((error: unknown) => {
        if (error instanceof ClusterError && error.status === 404) return undefined;
        throw error;
      });
      if (found !== undefined) throw new Error(`${name} is still there: ${JSON.stringify(found)}`);
    });
  }
}
