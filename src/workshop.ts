import type { ActivationLimits } from './domain/activation.ts';
import type { FleetRestartLimits } from './domain/restart-budget.ts';
import type { Guards } from './domain/gate.ts';
import type { WorkspaceKey } from './domain/name.ts';
import type { RuntimeProfile } from './domain/profile.ts';
import type { Artifacts } from './ports/artifacts.ts';
import type { Clock } from './ports/clock.ts';
import type { ControllerState } from './ports/controller-state.ts';
import type { Logger } from './ports/logger.ts';
import type { Metrics } from './ports/metrics.ts';
import type { Notifier } from './ports/notifier.ts';
import type { PluginHost } from './ports/plugin-host.ts';
import type { SecretResolver } from './ports/secret-resolver.ts';
import type { WorkspaceStore } from './ports/workspace-store.ts';
import type { TargetProvider } from './ports/workspace-target.ts';
import type { Claims } from './reconcile/claims.ts';
import type { Fetched } from './reconcile/desired.ts';
import { DryLooks } from './reconcile/dry-looks.ts';
import { Errands } from './reconcile/errands.ts';
import { FormerPlaces } from './reconcile/former-places.ts';
import { FleetRestarts } from './reconcile/fleet-restarts.ts';
import { FleetGuard } from './reconcile/fleet-guard.ts';
import { Grants } from './reconcile/grants.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { Revisions } from './reconcile/revisions.ts';
import type { SourceRegistry } from './reconcile/source-registry.ts';
import { Steps } from './reconcile/steps.ts';
import { TargetIndex } from './reconcile/target-index.ts';

/** What passes work with; made once for the process. */
export interface PassPorts {
  readonly store: WorkspaceStore;
  readonly state: ControllerState;
  readonly providers: readonly TargetProvider[];
  readonly host: PluginHost;
  readonly registry: SourceRegistry;
  readonly artifacts: Artifacts;
  readonly secrets: SecretResolver;
  readonly profiles: readonly RuntimeProfile[];
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  readonly notifier?: Notifier | undefined;
}

export interface PassLimits {
  readonly probeIntervalMs: number;
  readonly deepIntervalMs: number;
  readonly resolveIntervalMs: number;
  readonly guards: Guards;
  readonly activation: ActivationLimits;
  /** Left out: only each workspace has a budget. */
  readonly fleetRestarts?: FleetRestartLimits;
  /** How long a deletion waits for a target that cannot be reached, counted from its beginning. Left out: for ever. */
  readonly giveUpDeletionAfterMs?: number;
  /** How long a pass waits for a source before it goes on without that plugin. Left out: until the source answers. */
  readonly sourcePatienceMs?: number;
}

/** Local registries are on this machine's disk: asking them costs a few stats, so they are asked often. */
const LOCAL_RESOLVE_INTERVAL_MS = 2_000;

export interface Workshop {
  readonly index: TargetIndex;
  readonly revisions: Revisions;
  readonly errands: Errands<Fetched>;
  readonly claims: Claims;
  readonly reconciler: Reconciler;
  readonly dryLooks: DryLooks;
}

/** The reconciler and what it shares between workspaces. `wake` is told of workspaces that should have a pass soon. */
export function createWorkshop(
  ports: PassPorts,
  limits: PassLimits,
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
  const options = {
    ...ports,
    index,
    guard: new FleetGuard({ ...ports, guards: limits.guards }),
    grants: new Grants(ports),
    revisions,
    errands,
    probeIntervalMs: limits.probeIntervalMs,
    deepIntervalMs: limits.deepIntervalMs,
    activation: limits.activation,
    fleetRestarts: limits.fleetRestarts && new FleetRestarts({ ...ports, limits: limits.fleetRestarts }),
    giveUpDeletionAfterMs: limits.giveUpDeletionAfterMs ?? Infinity,
    onReleased: wake,
  };
  const steps = new Steps(options);
  const formerPlaces = new FormerPlaces(steps, options);
  const reconciler = new Reconciler(steps, formerPlaces, options);
  const dryLooks = new DryLooks(steps, formerPlaces, options);
  return { index, revisions, errands, claims: steps.claims, reconciler, dryLooks };
}
