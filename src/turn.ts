import { Controller } from './controller/controller.ts';
import { Resync } from './controller/resync.ts';
import { Supervisor } from './controller/supervisor.ts';
import { MemoryWorkQueue } from './controller/work-queue.ts';
import type { WorkspaceKey } from './domain/name.ts';
import type { RuntimeProfile } from './domain/profile.ts';
import { whenAborted } from './ports/abort.ts';
import type { Artifacts } from './ports/artifacts.ts';
import type { Clock } from './ports/clock.ts';
import type { Term } from './ports/leadership.ts';
import type { Logger } from './ports/logger.ts';
import type { Metrics } from './ports/metrics.ts';
import type { PluginHost } from './ports/plugin-host.ts';
import { LOW_PRIORITY } from './ports/work-queue.ts';
import type { WorkspaceStore } from './ports/workspace-store.ts';
import type { TargetProvider } from './ports/workspace-target.ts';
import type { Fetched } from './reconcile/desired.ts';
import { Errands } from './reconcile/errands.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { Revisions } from './reconcile/revisions.ts';
import type { SourceRegistry } from './reconcile/source-registry.ts';
import { TargetIndex } from './reconcile/target-index.ts';

/** What a turn works with; made once for the process. */
export interface TurnPorts {
  readonly store: WorkspaceStore;
  readonly providers: readonly TargetProvider[];
  readonly host: PluginHost;
  readonly registry: SourceRegistry;
  readonly artifacts: Artifacts;
  readonly profiles: readonly RuntimeProfile[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface TurnLimits {
  readonly workers: number;
  readonly laneLimit: number;
  readonly probeIntervalMs: number;
  readonly deepIntervalMs: number;
  readonly resolveIntervalMs: number;
  /** Pace of the first pass after a start, and of looks after a gap in what we are told, workspaces per second. */
  readonly firstPassPerSecond: number;
  readonly graceMs: number;
  /** How long a pass waits for a source before it goes on without that plugin. Left out: until the source answers. */
  readonly sourcePatienceMs?: number;
}

/** Local registries are on this machine's disk: asking them costs a few stats, so they are asked often. */
const LOCAL_RESOLVE_INTERVAL_MS = 2_000;
/** Far above what a forge takes that is well, far below what one may take that is not. */
const SOURCE_PATIENCE_MS = 5_000;
/** Questions to the store at once while the index is filled. */
const INTRODUCE_AT_ONCE = 16;

/** Tells the health endpoints about the turn under way; without one there is nothing that could be stuck. */
export interface TurnHealth {
  problem: () => string | undefined;
}

/** A worker pool in which nothing began or ended for so long is stuck, whatever its passes wait for. */
const STUCK_AFTER_MS = 15 * 60_000;

export interface Workshop {
  readonly index: TargetIndex;
  readonly revisions: Revisions;
  readonly errands: Errands<Fetched>;
  readonly reconciler: Reconciler;
}

/** The reconciler and what it shares between workspaces. `wake` is told of workspaces that should have a pass soon. */
export function createWorkshop(
  ports: TurnPorts,
  limits: TurnLimits,
  wake: (keys: readonly WorkspaceKey[]) => void,
): Workshop {
  const index = new TargetIndex();
  const revisions = new Revisions({
    registry: ports.registry,
    clock: ports.clock,
    logger: ports.logger,
    metrics: ports.metrics,
    intervalMs: (scheme) =>
      scheme === 'local' ? Math.min(LOCAL_RESOLVE_INTERVAL_MS, limits.resolveIntervalMs) : limits.resolveIntervalMs,
    onMoved: wake,
  });
  const errands = new Errands<Fetched>({ clock: ports.clock, patienceMs: limits.sourcePatienceMs, onEnded: wake });
  const reconciler = new Reconciler({
    ...ports,
    index,
    revisions,
    errands,
    probeIntervalMs: limits.probeIntervalMs,
    deepIntervalMs: limits.deepIntervalMs,
    onReleased: wake,
  });
  return { index, revisions, errands, reconciler };
}

/** Calls `work` for every item, `limit` of them at a time; rejects with the first failure. */
export async function eachAtOnce<T>(
  limit: number,
  items: readonly T[],
  work: (item: T) => Promise<void>,
): Promise<void> {
  const rest = items.values();
  const worker = async (): Promise<void> => {
    for (const item of rest) await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
}

/** Learns where every workspace points, so that no pass acts on a target that two of them claim. */
export async function introduceAll(
  keys: readonly WorkspaceKey[],
  reconciler: Reconciler,
  signal: AbortSignal,
): Promise<void> {
  await eachAtOnce(INTRODUCE_AT_ONCE, keys, (key) => reconciler.introduce(key, signal));
}

/**
 * What this process does while it leads: everything that wakes a workspace is tied to the queue, the queue to the
 * workers. Nothing of it outlives the turn. Resolves when `stop` aborted and all passes have ended, or when the term was lost.
 */
export async function serveTurn(
  ports: TurnPorts,
  limits: TurnLimits,
  term: Term,
  stop: AbortSignal,
  health: TurnHealth,
): Promise<void> {
  const { clock, logger, metrics, store } = ports;
  const over = AbortSignal.any([term.signal, stop]);
  const queue = new MemoryWorkQueue<WorkspaceKey>({
    clock,
    metrics,
    laneOf: (key) => workshop.index.laneOf(key),
    laneLimit: limits.laneLimit,
  });
  /** Something changed for these: what failed before may go well now, so they do not wait out their backoff. */
  const wake = (keys: readonly WorkspaceKey[], priority?: number): void => {
    for (const key of keys) {
      queue.forget(key);
      queue.add(key, priority);
    }
  };
  /** Something may have been missed, and nobody knows of whom: everybody, at the pace of the first pass. */
  const wakeSpread = (keys: readonly WorkspaceKey[]): void => {
    const windowMs = (index.size / limits.firstPassPerSecond) * 1000;
    for (const key of keys) queue.addAfter(key, clock.random() * windowMs, LOW_PRIORITY);
  };
  const patient = { sourcePatienceMs: SOURCE_PATIENCE_MS, ...limits };
  const workshop = createWorkshop(ports, patient, (keys) => wake(keys, LOW_PRIORITY));
  const { index, reconciler, revisions, errands } = workshop;
  /** A key is capped by its lane, so a new one is read once before it is queued: a burst of them on one hung engine would
   * take every worker. What cannot be read now is queued all the same; its pass says why. */
  const whenLaneIsKnown = (key: WorkspaceKey, then: () => void): void => {
    if (index.has(key)) then();
    else void reconciler.introduce(key, over).then(then, then);
  };
  const controller = new Controller<WorkspaceKey>({
    queue,
    reconcile: (key, signal) => reconciler.reconcile(key, term.fence, signal),
    clock,
    logger,
    metrics,
    workers: limits.workers,
    graceMs: limits.graceMs,
  });
  const supervisor = new Supervisor({ clock, logger, metrics });
  try {
    // Changes are listened to before the list is read, so that none falls between the two.
    await store.watch(
      (key, cause) => whenLaneIsKnown(key, () => (cause === 'edit' ? wake([key]) : wakeSpread([key]))),
      over,
    );
    await introduceAll(await store.list(over), reconciler, over);
    for (const provider of ports.providers) {
      provider.watch?.(
        (address) => wake(index.keysOf(address)),
        () => wakeSpread(index.keys()),
        over,
      );
    }
    controller.start(term.signal);
    supervisor.start(
      new Resync({ list: (signal) => store.list(signal), queue, clock, firstPassPerSecond: limits.firstPassPerSecond }),
    );
    health.problem = () => {
      const stuck = clock.monotonic() - controller.lastProgress > STUCK_AFTER_MS;
      return stuck ? 'no pass has begun or ended for 15 minutes' : supervisor.problem();
    };
    await whenAborted(over);
  } finally {
    health.problem = () => undefined;
    await supervisor.stop();
    await controller.stop();
    errands.stop();
    revisions.stop();
  }
}
