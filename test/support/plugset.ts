import { existsSync, renameSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { openApp, type App, type AppOptions } from '../../src/app.ts';
import type { Config, PlatformQueryConfig } from '../../src/config.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_CONTAINER_RULES, DEFAULT_EC2_ACCESS } from '../../src/domain/access.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { parseWorkspaceKey, type WorkspaceKey } from '../../src/domain/name.ts';
import type { WorkspaceStatus } from '../../src/domain/status.ts';
import { REQUESTED_AT_ANNOTATION, DEFAULT_POLICY, FILES_DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { eventually } from './eventually.ts';
import { RecordingLogger } from './recording-logger.ts';

/** A whole plugset in this process, with everything it touches in one temporary directory. */
export interface Plugset {
  readonly app: App;
  readonly config: Config;
  readonly logger: RecordingLogger;
  /** Directories `registry`, `root`, `files`, `git`. */
  readonly dirs: Readonly<Record<'registry' | 'root' | 'files' | 'git', string>>;
  /** Address of /metrics, once the daemon listens. */
  metricsUrl(): Promise<string>;
  status(name: string): Promise<WorkspaceStatus>;
  /** Waits until `check` holds for the status, and answers it. */
  until(name: string, check: (status: WorkspaceStatus) => void): Promise<WorkspaceStatus>;
  /** Waits until Ready is True for the newest generation. */
  untilReady(name: string): Promise<WorkspaceStatus>;
  /** Waits until a pass that was asked for now has ended. */
  requested(name: string): Promise<WorkspaceStatus>;
  stop(): Promise<void>;
}

export interface PlugsetOptions {
  readonly store:
    | { readonly kind: 'postgres'; readonly url: string; readonly query?: PlatformQueryConfig }
    | { readonly kind: 'files' }
    | { readonly kind: 'kubernetes'; readonly namespaces: readonly string[]; readonly stateNamespace: string };
  readonly config?: Partial<Config>;
  readonly parts?: AppOptions;
  /** Left out: a daemon runs. */
  readonly idle?: boolean;
}

export async function startPlugset(options: PlugsetOptions): Promise<Plugset> {
  const base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-e2e-')));
  const dirs = {
    registry: join(base, 'registry'),
    root: join(base, 'root'),
    files: join(base, 'files'),
    git: join(base, 'git'),
  };
  for (const dir of Object.values(dirs)) await mkdir(dir);
  const config: Config = {
    ...DEFAULTS,
    store:
      options.store.kind === 'files'
        ? { kind: 'files', dir: dirs.files, origin: 'the test' }
        : { ...options.store, origin: 'the test' },
    policy: isOthersToDelete(options.store) ? FILES_DEFAULT_POLICY : DEFAULT_POLICY,
    stateDir: join(base, 'state'),
    cacheDir: join(base, 'cache'),
    roots: [{ path: dirs.root }],
    registries: [dirs.registry],
    gitRoots: [dirs.git],
    ...options.config,
  };
  const logger = new RecordingLogger();
  const app = await openApp(config, logger, options.parts);
  const stop = new AbortController();
  const listening = deferred<string>();
  const running = options.idle === true ? Promise.resolve() : app.run(stop.signal, { onListening: listening.resolve });
  const status = async (name: string): Promise<WorkspaceStatus> => {
    const loaded = await app.store.get(keyOf(name), AbortSignal.timeout(60_000));
    if (loaded.kind === 'absent') throw new Error(`${name} is not declared`);
    return loaded.status;
  };
  const until = (name: string, check: (status: WorkspaceStatus) => void): Promise<WorkspaceStatus> =>
    eventually(async () => {
      const now = await status(name);
      check(now);
      return now;
    });
  const plugset: Plugset = {
    app,
    config,
    logger,
    dirs,
    metricsUrl: () => listening.promise,
    status,
    until,
    untilReady: (name) =>
      eventually(async () => {
        const loaded = await app.store.get(keyOf(name), AbortSignal.timeout(60_000));
        if (loaded.kind !== 'found') throw new Error(`${name} is ${loaded.kind}`);
        const ready = findCondition(loaded.status.conditions, 'Ready');
        if (ready?.status !== 'True' || ready.observedGeneration !== loaded.workspace.generation) {
          throw new Error(`${name} is not ready: ${JSON.stringify(loaded.status.conditions)}`);
        }
        return loaded.status;
      }),
    requested: async (name) => {
      const token = `test-${Math.random()}`;
      await app.store.annotate(keyOf(name), { [REQUESTED_AT_ANNOTATION]: token }, AbortSignal.timeout(60_000));
      return until(name, (now) => {
        if (now.lastHandledReconcileAt !== token) throw new Error(`${name} has not handled ${token}`);
      });
    },
    stop: async () => {
      stop.abort(new Error('the test is over'));
      await running;
      await app.close();
      await rm(base, { recursive: true, force: true, maxRetries: 3 });
    },
  };
  return plugset;
}

function isOthersToDelete(store: PlugsetOptions['store']): boolean {
  return store.kind === 'files' || (store.kind === 'postgres' && store.query !== undefined);
}

const DEFAULTS: Omit<Config, 'store' | 'policy' | 'stateDir' | 'cacheDir' | 'roots' | 'registries' | 'gitRoots'> = {
  kubernetes: { kubeconfigs: [] },
  cacheBytes: 1024 ** 3,
  authority: undefined,
  engines: [],
  sshHosts: [],
  engineHosts: [],
  ec2: DEFAULT_EC2_ACCESS,
  pods: {},
  containerRules: DEFAULT_CONTAINER_RULES,
  profiles: BUILT_IN_PROFILES,
  guards: DEFAULT_GUARDS,
  // What is about restarts says so; elsewhere they would only be in the way.
  activation: { quietMs: 600_000, patienceMs: 600_000, perHour: 0 },
  fleetRestarts: { restarts: 1000, windowMs: 600_000, settleMs: 0 },
  giveUpDeletionAfterMs: 3_600_000,
  kubernetesEvents: true,
  githubUrl: 'https://github.com',
  giteaUrl: undefined,
  gitCredentials: [],
  secrets: [],
  secretVariables: {},
  caFile: undefined,
  knownHosts: undefined,
  sshKey: undefined,
  allowUnpinned: false,
  allowLoopback: true,
  listen: { host: '127.0.0.1', port: 0 },
  workers: 8,
  laneLimit: 4,
  probeIntervalMs: 200,
  deepIntervalMs: 2_000,
  resolveIntervalMs: 500,
  firstPassPerSecond: 1000,
  leaseMs: 15_000,
  graceMs: 10_000,
  workspaceMetrics: true,
  logLevel: 'debug',
  path: process.env['PATH'] ?? '/usr/bin:/bin',
};

function keyOf(name: string): WorkspaceKey {
  const key = parseWorkspaceKey(name);
  if (key === undefined) throw new Error(`${name} is no name of a workspace`);
  return key;
}

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}

/**
 * Writes the files of a plugin, by path; content that starts with `#!` is executable. The whole tree comes at once: whoever
 * looks in the middle of it would take what is there for a release of its own.
 */
export async function writePlugin(dir: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(dirname(dir), { recursive: true });
  const draft = await mkdtemp(join(dirname(dir), '.draft-'));
  const [young, old] = [join(draft, 'young'), join(draft, 'old')];
  await mkdir(young);
  for (const [path, content] of Object.entries(files)) {
    await mkdir(dirname(join(young, path)), { recursive: true });
    await writeFile(join(young, path), content, { mode: content.startsWith('#!') ? 0o755 : 0o644 });
  }
  if (existsSync(dir)) renameSync(dir, old);
  renameSync(young, dir);
  await rm(draft, { recursive: true });
}
