import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { Ec2TargetOptions } from './adapters/aws/ec2-target-provider.ts';
import { PooledSshHosts } from './adapters/ssh/pooled-ssh-hosts.ts';
import { KubeSecrets } from './adapters/kube/kube-secrets.ts';
import { SystemClock } from './adapters/system/clock.ts';
import { LocalSecrets } from './adapters/system/local-secrets.ts';
import { DiskScratchSpace } from './adapters/system/disk-scratch-space.ts';
import { WebhookNotifier } from './adapters/webhook/webhook-notifier.ts';
import type { Config } from './config.ts';
import { campaign } from './controller/leading.ts';
import { classifyError, type ReconcileError } from './domain/errors.ts';
import type { WorkspaceKey } from './domain/name.ts';
import type { WorkspaceStatus } from './domain/status.ts';
import type { FleetPolicy } from './domain/workspace.ts';
import { ArtifactCache } from './plugins/artifact-cache.ts';
import { ScriptedPluginHost } from './plugins/plugin-host.ts';
import { ScriptTools } from './plugins/tools.ts';
import { untilEither } from './ports/abort.ts';
import type { Clock } from './ports/clock.ts';
import type { Leadership, Term } from './ports/leadership.ts';
import type { Logger } from './ports/logger.ts';
import type { Metrics } from './ports/metrics.ts';
import type { PathTrace } from './ports/path-trace.ts';
import type { PluginHost } from './ports/plugin-host.ts';
import { mapAtOnce } from './ports/map-at-once.ts';
import type { WorkspaceStore } from './ports/workspace-store.ts';
import type { SecretResolver } from './ports/secret-resolver.ts';
import type { TargetProvider } from './ports/workspace-target.ts';
import type { Owner, Preview, Survey, Unseen, Walked } from './reconcile/dry-looks.ts';
import type { SourceRegistry } from './reconcile/source-registry.ts';
import { prepareTargets } from './reconcile/prepare-targets.ts';
import { Kube } from './kube.ts';
import { createSources } from './sources.ts';
import { StateSweep } from './reconcile/state-sweep.ts';
import { openPatiently, waitingForStore, type Patience } from './patience.ts';
import { openStore, type OpenedStore, type StoreRole } from './stores.ts';
import { createTargets, type Targets } from './targets.ts';
import { Telemetry } from './telemetry.ts';
import { createWorkshop, type PassPorts, type Workshop } from './workshop.ts';
import { Turn } from './turn.ts';

export interface OnceResult {
  readonly key: WorkspaceKey;
  readonly status: WorkspaceStatus | undefined;
  readonly error: ReconcileError | undefined;
}

export interface RunEvents {
  onListening?(url: string): void;
  onStandby?(holder: string): void;
  onLeading?(): void;
}

export interface OnceEvents {
  onStandby?(holder: string): void;
  /** The lease is held, and these are to have a pass. */
  onLeading?(keys: readonly WorkspaceKey[]): void;
  /** The pass over it has begun. */
  onBegin?(key: WorkspaceKey): void;
  onResult?(result: OnceResult): void;
}

export type { Preview, Survey };

/** What a look at a target found, why there was none, or why it failed. */
export type LookResult<T> = T | Unseen | { readonly kind: 'failed'; readonly error: ReconcileError };

/** Called as each look ends. */
export type OnLook<T> = (key: WorkspaceKey, result: LookResult<T>) => void;

/** Who manages a target. */
export type TargetOwner = Owner & { readonly isOurs: boolean };

/** Everything a command that looks at targets needs. */
export interface App {
  readonly store: WorkspaceStore;
  /** The daemon: campaigns, works, drains. Resolves when `signal` aborted and everything is down. */
  run(signal: AbortSignal, events?: RunEvents): Promise<void>;
  /** One pass over everything declared (or `keys`) under the lease, then the results. */
  once(
    keys: readonly WorkspaceKey[] | undefined,
    signal: AbortSignal,
    events?: OnceEvents,
  ): Promise<readonly OnceResult[]>;
  /** Looks and plans; like the two below it changes nothing, needs no lease, and asks each source once for all. */
  preview(keys: readonly WorkspaceKey[], signal: AbortSignal, onPreview: OnLook<Preview>): Promise<void>;
  /** Looks at targets and tells where what is there came from. */
  survey(keys: readonly WorkspaceKey[], signal: AbortSignal, onSurvey: OnLook<Survey>): Promise<void>;
  /** Goes the whole way to a target as a pass would, and tells each step; providers tell theirs to {@link AppOptions.trace}. */
  walk(key: WorkspaceKey, trace: PathTrace, signal: AbortSignal): Promise<LookResult<Walked>>;
  /** Looks at targets and tells who manages them. */
  owners(keys: readonly WorkspaceKey[], signal: AbortSignal, onOwner: OnLook<TargetOwner>): Promise<void>;
  /**
   * Goes on under other settings: passes under way end first, the lease is kept, every workspace then has its first pass.
   * What only a restart can change (`config/reload.ts`) must be as it was.
   */
  reconfigure(config: Config): void;
  /** For what is told of the process as a whole. */
  readonly metrics: Pick<Metrics, 'configured'>;
  close(): Promise<void>;
}

/** What differs from what the configuration says. */
export interface AppOptions {
  /** Default: controller. */
  readonly role?: StoreRole;
  readonly clock?: Clock;
  readonly providers?: readonly TargetProvider[] | undefined;
  /** Puts plugins on targets and looks at them. Left out: the two scripts. */
  readonly host?: PluginHost | undefined;
  /** Where AWS is and who asks it. Left out: as its SDK finds it. */
  readonly aws?: Ec2TargetOptions['aws'];
  /** Hears of every step on the way to a target. */
  readonly trace?: PathTrace | undefined;
  /** For a daemon. Left out: a store that does not answer is an error. */
  readonly patience?: Patience | undefined;
}

export async function openApp(config: Config, logger: Logger, options: AppOptions = {}): Promise<App> {
  const { clock = new SystemClock() } = options;
  const telemetry = await Telemetry.create(config, clock, logger);
  const kube = new Kube({ config: config.kubernetes, clock, metrics: telemetry.metrics });
  try {
    return await openWith({ telemetry, kube, clock }, config, logger, options);
  } catch (error) {
    await telemetry.close();
    kube.close();
    throw error;
  }
}

interface Base {
  readonly telemetry: Telemetry;
  readonly kube: Kube;
  readonly clock: Clock;
}

async function openWith(base: Base, config: Config, logger: Logger, options: AppOptions): Promise<App> {
  const { telemetry, kube, clock } = base;
  const { role = 'controller', patience, trace } = options;
  const { metrics } = telemetry;
  await mkdir(config.cacheDir, { recursive: true, mode: 0o700 });
  const scratch = await DiskScratchSpace.open(join(config.cacheDir, 'scratch'), clock);
  const isLookOnly = role === 'client';
  const sshHosts = new PooledSshHosts({ state: () => opened.state, clock, isLookOnly, metrics, trace });
  const ways = { sshHosts, kube, aws: options.aws, trace, clock, logger, metrics };
  const makeParts = (from: Config): Parts => ({
    config: from,
    registry: createSources(from, clock, scratch),
    secrets:
      config.store.kind === 'kubernetes' ? new KubeSecrets(kube) : new LocalSecrets(from.secrets, from.secretVariables),
    targets: options.providers === undefined ? createTargets(from, ways) : { providers: options.providers },
  });
  const current: Current = { parts: makeParts(config) };
  const defaultPolicy = (): FleetPolicy => current.parts.config.policy;
  const tellsEvents = (): boolean => current.parts.config.kubernetesEvents;
  const open = (signal?: AbortSignal): Promise<OpenedStore> =>
    openStore(config, { role, logger, clock, defaultPolicy, tellsEvents, kube, metrics, ...(signal && { signal }) });
  const opened = await (patience === undefined ? open() : openPatiently(open, patience, { clock, logger, telemetry }));
  telemetry.storeProblem = () => opened.problem?.();
  telemetry.targetProblem = () => current.parts.targets.pods?.problem();
  telemetry.storeNotes = () =>
    [...(opened.store.unread?.() ?? [])].map(([namespace, why]) => `namespace ${namespace} cannot be read: ${why}`);
  metrics.observeReflectors(() => [...(opened.reflectors?.() ?? []), ...(current.parts.targets.pods?.states() ?? [])]);
  const artifacts = await ArtifactCache.open({
    dir: config.cacheDir,
    scratch,
    fetch: (source, revision, signal) =>
      current.parts.registry.sourceOf(source.ref.scheme).fetch(source, revision, signal),
    maxBytes: config.cacheBytes,
    clock,
    logger,
    metrics,
  }).catch(async (error: unknown) => {
    await opened.close();
    throw error;
  });
  const webhook = new WebhookNotifier({
    settings: () => {
      const { webhook: hook, caFile } = current.parts.config;
      return hook === undefined ? undefined : { ...hook, caFile };
    },
    clock,
    logger,
    metrics,
  });
  return new PlugsetApp({
    opened,
    ports: {
      store: opened.store,
      state: opened.state,
      host: options.host ?? new ScriptedPluginHost(),
      artifacts,
      clock,
      logger,
      metrics,
      notifier: {
        notify: (...told) => {
          webhook.notify(...told);
          opened.notifier?.notify(...told);
        },
      },
    },
    telemetry,
    makeParts,
    current,
    close: async () => {
      await telemetry.close();
      await Promise.all([webhook.close(), opened.notifier?.close()]);
      await artifacts.close();
      await sshHosts.close();
      await opened.close();
      kube.close();
    },
  });
}

/** What is made of the configuration, and made anew with it. */
interface Parts {
  readonly config: Config;
  readonly registry: SourceRegistry;
  readonly targets: Targets;
  readonly secrets: SecretResolver;
}

interface Current {
  parts: Parts;
}

interface PlugsetAppOptions {
  readonly opened: OpenedStore;
  readonly ports: Omit<PassPorts, 'registry' | 'providers' | 'profiles' | 'secrets'>;
  readonly telemetry: Telemetry;
  readonly makeParts: (config: Config) => Parts;
  readonly current: Current;
  readonly close: () => Promise<void>;
}

/** How many workspaces `once` and looks work on at the same time. */
const WORKSPACES_AT_ONCE = 8;

class PlugsetApp implements App {
  readonly store: WorkspaceStore;
  readonly metrics: Pick<Metrics, 'configured'>;
  readonly #options: PlugsetAppOptions;
  /** Aborts when the parts were replaced. */
  #replaced = new AbortController();
  /** Providers of settings that no longer hold; a turn may still be using them. */
  readonly #retired: TargetProvider[] = [];

  constructor(options: PlugsetAppOptions) {
    this.store = options.opened.store;
    this.metrics = options.ports.metrics;
    this.#options = options;
  }

  get #parts(): Parts {
    return this.#options.current.parts;
  }

  get #ports(): PassPorts {
    const { registry, targets, config, secrets } = this.#parts;
    return { ...this.#options.ports, registry, secrets, providers: targets.providers, profiles: config.profiles };
  }

  reconfigure(config: Config): void {
    const before = this.#parts;
    this.#options.current.parts = this.#options.makeParts(config);
    const { providers } = before.targets;
    if (providers !== this.#parts.targets.providers) this.#retired.push(...providers);
    this.#replaced.abort();
    this.#replaced = new AbortController();
  }

  async run(signal: AbortSignal, events: RunEvents = {}): Promise<void> {
    const { clock, logger, metrics } = this.#options.ports;
    const { telemetry } = this.#options;
    // As above: whether anybody wants to hear of it or not.
    const url = await telemetry.listen();
    events.onListening?.(url);
    const lead = async (term: Term, stop: AbortSignal): Promise<void> => {
      while (!stop.aborted && !term.signal.aborted) {
        const isOver = AbortSignal.any([stop, this.#replaced.signal]);
        const turn = new Turn(this.#ports, this.#parts.config, term);
        telemetry.leader = turn;
        telemetry.obstacle = undefined;
        try {
          // One turn after the other: what runs under the old settings ends before anything begins under the new ones.
          await turn.run(isOver);
        } catch (error) {
          telemetry.obstacle = obstacleOf(error);
          throw error;
        } finally {
          telemetry.leader = undefined;
        }
        await closeAll(this.#retired.splice(0));
      }
    };
    try {
      await campaign({ leadership: this.#announced(events), lead, clock, logger, metrics }, signal);
    } finally {
      await telemetry.close();
    }
  }

  /** The leadership of the store, which also tells whoever started us. */
  #announced(events: RunEvents): Pick<Leadership, 'acquire'> {
    return {
      acquire: async (signal, onWaiting) => {
        const { opened, telemetry } = this.#options;
        const isOver = new AbortController();
        let preparing: Promise<void> | undefined;
        try {
          const term = await opened.leadership.acquire(
            signal,
            (holder) => {
              telemetry.obstacle = undefined;
              opened.standBy?.(signal);
              preparing ??= this.#prepare(isOver.signal);
              onWaiting?.(holder);
              events.onStandby?.(holder);
            },
            (why) => (telemetry.obstacle = why === undefined ? undefined : waitingForStore(why)),
          );
          events.onLeading?.();
          return term;
        } finally {
          isOver.abort();
          await preparing;
        }
      },
    };
  }

  /** While another process leads; as in {@link run}, one set of providers after the other. */
  async #prepare(stop: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#options.ports;
    while (!stop.aborted) {
      const { providers } = this.#parts.targets;
      await untilEither(stop, this.#replaced.signal, (isOver) =>
        prepareTargets({ store, providers, clock, logger }, isOver),
      );
      await closeAll(this.#retired.splice(0));
    }
  }

  async once(
    keys: readonly WorkspaceKey[] | undefined,
    signal: AbortSignal,
    events: OnceEvents = {},
  ): Promise<readonly OnceResult[]> {
    const term = await this.#options.opened.leadership.acquire(signal, (holder) => events.onStandby?.(holder));
    const { config } = this.#parts;
    // A person has begun it, and wants to see it done.
    const limits = { ...config, fleetRestarts: { ...config.fleetRestarts, settleMs: 0 } };
    const { revisions, claims, reconciler } = createWorkshop(this.#ports, limits, () => undefined);
    const over = AbortSignal.any([signal, term.signal]);
    const results: OnceResult[] = [];
    const pass = async (key: WorkspaceKey): Promise<OnceResult> => {
      try {
        const { failure } = await reconciler.reconcile(key, term.fence, over);
        return { key, status: await this.#statusOf(key, over), error: failure };
      } catch (error) {
        over.throwIfAborted();
        return { key, status: await this.#statusOf(key, over), error: classifyError(error) };
      }
    };
    try {
      const all = await this.store.list(over);
      events.onLeading?.(keys ?? all);
      await claims.introduceAll(all, over);
      await mapAtOnce(WORKSPACES_AT_ONCE, keys ?? all, async (key) => {
        events.onBegin?.(key);
        const result = await pass(key);
        results.push(result);
        events.onResult?.(result);
      });
      if (keys === undefined) await this.#sweep(over);
      return results;
    } finally {
      revisions.stop();
      await term.release();
    }
  }

  /** Where no daemon ever runs, nobody else does it. What every pass came to does not hang on it. */
  async #sweep(signal: AbortSignal): Promise<void> {
    const { logger } = this.#options.ports;
    try {
      await new StateSweep(this.#ports).sweep(signal);
    } catch (error) {
      logger.warn('documents that say nothing any more could not be removed', { error });
    }
  }

  async #statusOf(key: WorkspaceKey, signal: AbortSignal): Promise<WorkspaceStatus | undefined> {
    const loaded = await this.store.get(key, signal);
    return loaded.kind === 'absent' ? undefined : loaded.status;
  }

  async preview(keys: readonly WorkspaceKey[], signal: AbortSignal, onPreview: OnLook<Preview>): Promise<void> {
    const authority = await this.#options.opened.authority(signal);
    await this.#lookAt(keys, signal, onPreview, async ({ claims, dryLooks }) => {
      await claims.introduceAll(await this.store.list(signal), signal);
      return (key) => dryLooks.preview(key, authority, signal);
    });
  }

  async survey(keys: readonly WorkspaceKey[], signal: AbortSignal, onSurvey: OnLook<Survey>): Promise<void> {
    await this.#lookAt(keys, signal, onSurvey, async ({ dryLooks }) => {
      return (key) => dryLooks.survey(key, signal);
    });
  }

  async walk(key: WorkspaceKey, trace: PathTrace, signal: AbortSignal): Promise<LookResult<Walked>> {
    let walked: LookResult<Walked> | undefined;
    const bench = new ScriptTools();
    await this.#lookAt<Walked>(
      [key],
      signal,
      (_, result) => (walked = result),
      async ({ dryLooks }) => {
        return (one) => dryLooks.walk(one, { trace, bench }, signal);
      },
    );
    return walked ?? { kind: 'absent' };
  }

  async owners(keys: readonly WorkspaceKey[], signal: AbortSignal, onOwner: OnLook<TargetOwner>): Promise<void> {
    const ours = await this.#options.opened.authority(signal);
    await this.#lookAt(keys, signal, onOwner, async ({ dryLooks }) => async (key) => {
      const owner = await dryLooks.owner(key, signal);
      if (owner.kind !== 'looked') return owner;
      return { ...owner, isOurs: owner.authority !== undefined && owner.authority === ours };
    });
  }

  /** One that cannot be looked at is told with its error, and stops no other. */
  async #lookAt<T>(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
    onLook: OnLook<T>,
    begin: (workshop: Workshop) => Promise<(key: WorkspaceKey) => Promise<T | Unseen>>,
  ): Promise<void> {
    const workshop = createWorkshop(this.#ports, this.#parts.config, () => undefined);
    try {
      const look = await begin(workshop);
      await mapAtOnce(WORKSPACES_AT_ONCE, keys, async (key) => {
        try {
          onLook(key, await look(key));
        } catch (error) {
          signal.throwIfAborted();
          onLook(key, { kind: 'failed', error: classifyError(error) });
        }
      });
    } finally {
      workshop.revisions.stop();
    }
  }

  async close(): Promise<void> {
    await closeAll([...this.#parts.targets.providers, ...this.#retired]);
    await this.#options.close();
  }
}

/** Until the next turn nobody else says it. */
function obstacleOf(error: unknown): string {
  const { reason, message } = classifyError(error);
  return reason === 'StoreUnavailable' ? waitingForStore(message) : `the last turn failed: ${message}`;
}

async function closeAll(providers: readonly TargetProvider[]): Promise<void> {
  await Promise.all(providers.map((provider) => provider.close()));
}
