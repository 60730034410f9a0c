import { setMaxListeners } from 'node:events';
import { join } from 'node:path';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { DockerTargetProvider } from '../../src/adapters/docker/docker-target-provider.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DiskScratchSpace } from '../../src/adapters/system/disk-scratch-space.ts';
import { openStore } from '../../src/stores.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { ArtifactCache } from '../../src/plugins/artifact-cache.ts';
import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { TargetSpec } from '../../src/domain/workspace.ts';
import type { Phase } from '../../src/ports/metrics.ts';
import type { TargetProvider } from '../../src/ports/workspace-target.ts';
import { createSources } from '../../src/sources.ts';
import { createWorkshop, type PassPorts } from '../../src/workshop.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { startPlugset } from '../support/plugset.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { recordingMetrics } from '../support/recording-metrics.ts';
import { PLUGIN_NAMES, writePlugins } from './plugins.ts';
import { timed } from './measure.ts';

/** Milliseconds of one pass, whole and by phase. */
export interface PassTimes {
  readonly wholeMs: number;
  readonly phases: ReadonlyMap<Phase, number>;
  /** How often it looked deep, the look that ends an apply apart. */
  readonly looks: number;
}

/**
 * What a daemon works with, on a real database, without its queue and clocks: a pass is run when it is asked for, and
 * nothing else runs beside it.
 */
export interface BenchWorkshop {
  readonly database: FreshDatabase;
  /** Directory with the plugins of {@link PLUGIN_NAMES}. */
  readonly registry: string;
  /** Declares a workspace with all plugins in a container. */
  declare(name: string, container: string): Promise<void>;
  /** The same, wherever it is. */
  declareAt(name: string, target: TargetSpec): Promise<void>;
  pass(name: string): Promise<PassTimes>;
  /** What a daemon does when it begins to lead, up to the first pass. */
  introduceAll(): Promise<void>;
  close(): Promise<void>;
}

export interface WorkshopOptions {
  readonly postgres: string;
  /** An engine, or what reaches other targets; it is closed with the workshop. */
  readonly docker: string | TargetProvider;
  /** Left out: ten plugins of five small files. */
  readonly plugins?: (registry: string) => Promise<void>;
  /** `deep`: no pass takes an earlier look for granted. */
  readonly tier: 'probe' | 'deep';
}

const HOUR_MS = 3_600_000;
const forever = new AbortController().signal;
// As in main.ts: many calls at once hang on one signal.
setMaxListeners(0, forever);

export async function openWorkshop({
  postgres,
  docker,
  tier,
  plugins = writePlugins,
}: WorkshopOptions): Promise<BenchWorkshop> {
  const database = await freshDatabase(postgres);
  const plugset = await startPlugset({ store: { kind: 'postgres', url: database.url }, idle: true });
  const { config, dirs } = plugset;
  await plugins(dirs.registry);
  const [clock, logger, metrics] = [new SystemClock(), new RecordingLogger(), recordingMetrics()];
  const opened = await openStore(config, { logger, clock, role: 'controller' });
  const dir = join(config.cacheDir, 'bench');
  const scratch = await DiskScratchSpace.open(join(dir, 'scratch'), clock);
  const registry = createSources(config, clock, scratch);
  const artifacts = await ArtifactCache.open({
    dir,
    scratch,
    fetch: (source, revision, signal) => registry.sourceOf(source.ref.scheme).fetch(source, revision, signal),
    clock,
    logger,
    metrics,
  });
  const provider =
    typeof docker === 'string'
      ? new DockerTargetProvider({ engines: [{ name: 'default', address: docker }], clock, logger })
      : docker;
  const { store } = opened;
  const host = new ScriptedPluginHost();
  const profiles = BUILT_IN_PROFILES;
  const ports: PassPorts = {
    store,
    state: opened.state,
    providers: [provider],
    host,
    registry,
    artifacts,
    secrets: new LocalSecrets([], {}),
    profiles,
    clock,
    logger,
    metrics,
  };
  const deepIntervalMs = tier === 'deep' ? 0 : HOUR_MS;
  const { claims, reconciler, revisions } = createWorkshop(
    ports,
    { ...config, resolveIntervalMs: HOUR_MS, deepIntervalMs },
    () => undefined,
  );
  const term = await opened.leadership.acquire(AbortSignal.timeout(10_000));

  const declareAt = async (name: string, target: TargetSpec): Promise<void> => {
    const insert = `insert into plugset.workspaces (name, runtime, target) values ($1, 'claude-code', $2)`;
    await database.sql(insert, [name, target]);
    const insertPlugins = `insert into plugset.plugins (workspace, name, source) select $1, name, name from unnest($2::text[]) name`;
    await database.sql(insertPlugins, [name, PLUGIN_NAMES]);
  };

  return {
    database,
    registry: dirs.registry,
    declare: (name, container) => declareAt(name, { docker: { container } }),
    declareAt,
    async pass(name) {
      const from = metrics.calls.length;
      const key = workspaceKey('default', name);
      const wholeMs = await timed(() => reconciler.reconcile(key, term.fence, AbortSignal.timeout(60_000)));
      const calls = metrics.calls.slice(from);
      const phases = calls.flatMap(({ method, args: [phase, seconds] }) =>
        method === 'phase' ? [[phase as Phase, (seconds as number) * 1000] as const] : [],
      );
      const looks = calls.filter(({ method, args: [depth] }) => method === 'looked' && depth === 'deep').length;
      return { wholeMs, phases: new Map(phases), looks };
    },
    introduceAll: async () => claims.introduceAll(await store.list(forever), forever),
    async close() {
      revisions.stop();
      await term.release();
      await Promise.all([provider.close(), artifacts.close()]);
      await opened.close();
      await plugset.stop();
      await database.drop();
    },
  };
}
