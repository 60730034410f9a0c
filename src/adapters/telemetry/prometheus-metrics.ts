import { collectDefaultMetrics, Registry } from 'prom-client';

import type { ErrorClass, ReconcileError } from '../../domain/errors.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceStatus } from '../../domain/status.ts';
import { REASONS } from '../../domain/reason.ts';
import type {
  AwsAction,
  AwsOutcome,
  DeclaredSource,
  EngineOutcome,
  EngineRequest,
  LoginOutcome,
  LoopState,
  Metrics,
  Phase,
  QueueState,
  ReconcileOutcome,
  ReflectorState,
  SourceState,
  TunnelState,
  WatchEnd,
} from '../../ports/metrics.ts';
import { ENGINE_BUCKETS, LAG_BUCKETS, PASS_BUCKETS, PHASE_BUCKETS } from './buckets.ts';
import { ControllerGauges } from './controller-gauges.ts';
import { FleetGauges } from './fleet-gauges.ts';
import { HostMetrics } from './host-metrics.ts';
import { Instruments, type MetricEntry } from './instruments.ts';
import { KubeMetrics } from './kube-metrics.ts';
import { SourceMetrics } from './source-metrics.ts';

const OUTCOMES: readonly ReconcileOutcome[] = ['success', 'error', 'requeue', 'requeue_after'];
const PHASES: readonly Phase[] = [
  'load',
  'locate',
  'resolve',
  'probe',
  'observe',
  'plan',
  'converge',
  'activate',
  'report',
];
const CLASSES: readonly ErrorClass[] = ['transient', 'waiting', 'terminal', 'unknown', 'aborted'];
const ENGINE_REQUESTS: readonly EngineRequest[] = [
  'inspect',
  'list',
  'stat',
  'exec_create',
  'exec_start',
  'exec_inspect',
  'events',
  'restart',
  'info',
  'ping',
];
const ENGINE_OUTCOMES: readonly EngineOutcome[] = ['ok', 'not_found', 'refused', 'error', 'unanswered', 'called_off'];
const ACTIONS = ['install', 'replace', 'restore', 'remove', 'adopt', 'configure'];

const CONTROLLER = { controller: ['workspace'] };
const ENGINE = { named: 'each Docker engine' };
const QUEUE = { name: ['workspace'], controller: ['workspace'] };
const controller = 'workspace';
const queue = { name: 'workspace', controller };

export interface PrometheusMetricsOptions {
  /** Version of plugset, for `plugset_build_info`. */
  readonly version: string;
  /** Also series per workspace (namespace and name as labels). */
  readonly perWorkspace: boolean;
}

/**
 * The metrics of one process, in a registry of its own. Names and labels up to `leader_election_master_status` are those
 * of Kubernetes' controller-runtime and client-go, so that their dashboards and alert rules work unchanged.
 */
export class PrometheusMetrics implements Metrics {
  readonly registry = new Registry();
  readonly #make = new Instruments(this.registry);
  #isFleetKnown: () => boolean = () => false;
  #configUsable = true;
  /** When a configuration file that can be used was last read; `undefined` where there is none. */
  #configuredSeconds: number | undefined;

  readonly #reconciles = this.#make.counter('controller_runtime_reconcile_total', 'Passes that ended, by result.', {
    ...CONTROLLER,
    result: OUTCOMES,
  });
  readonly #errors = this.#make.counter('controller_runtime_reconcile_errors_total', 'Passes that failed.', CONTROLLER);
  readonly #terminalErrors = this.#make.counter(
    'controller_runtime_terminal_reconcile_errors_total',
    'Passes that failed in a way which only a change from outside helps.',
    CONTROLLER,
  );
  readonly #panics = this.#make.counter(
    'controller_runtime_reconcile_panics_total',
    'Passes that hit a fault of plugset itself.',
    CONTROLLER,
  );
  readonly #timeouts = this.#make.counter(
    'controller_runtime_reconcile_timeouts_total',
    'Passes that were ended by their deadline.',
    CONTROLLER,
  );
  readonly #reconcileSeconds = this.#make.seconds(
    'controller_runtime_reconcile_time_seconds',
    'Duration of passes.',
    PASS_BUCKETS,
    CONTROLLER,
  );
  readonly #maxConcurrent = this.#make.gauge(
    'controller_runtime_max_concurrent_reconciles',
    'Passes that may be under way at once.',
    CONTROLLER,
  );
  readonly #activeWorkers = this.#make.gauge('controller_runtime_active_workers', 'Passes under way.', CONTROLLER);
  readonly #queueAdds = this.#make.counter('workqueue_adds_total', 'Keys that became ready.', QUEUE);
  readonly #queueRetries = this.#make.counter('workqueue_retries_total', 'Keys put back with backoff.', QUEUE);
  readonly #queueSeconds = this.#make.seconds(
    'workqueue_queue_duration_seconds',
    'How long keys were ready before they were taken up.',
    PASS_BUCKETS,
    QUEUE,
  );
  readonly #workSeconds = this.#make.seconds(
    'workqueue_work_duration_seconds',
    'How long keys were in hand.',
    PASS_BUCKETS,
    QUEUE,
  );
  readonly #isLeader = this.#make.gauge('leader_election_master_status', '1 while this process leads, else 0.', {
    name: ['plugset'],
  });

  readonly #failures = this.#make.counter(
    'plugset_reconcile_failures_total',
    'Passes that failed or had to wait, by class and reason.',
    { class: { late: CLASSES }, reason: { late: Object.keys(REASONS) } },
  );
  readonly #restarts = this.#make.counter(
    'plugset_restarts_total',
    'Restarts of workspaces, so that their runtimes take changes up, by what came of them.',
    { outcome: ['done', 'failed', 'unknown'] },
  );
  readonly #changes = this.#make.counter(
    'plugset_plugin_changes_total',
    'Changes carried out on targets: what was declared (intentional), or the repair of drift (corrective).',
    { action: ACTIONS, cause: ['intentional', 'corrective'] },
  );
  readonly #convergeLag = this.#make.seconds(
    'plugset_converge_lag_seconds',
    'From the write of a declaration to the look that found it converged.',
    LAG_BUCKETS,
  );
  readonly #phaseSeconds = this.#make.seconds(
    'plugset_phase_duration_seconds',
    'Duration of the phases of passes.',
    PHASE_BUCKETS,
    {
      phase: PHASES,
    },
  );
  readonly #artifacts = this.#make.counter(
    'plugset_artifact_cache_events_total',
    'What the artifact cache was asked for, and gave up.',
    {
      event: ['hit', 'miss', 'evicted'],
    },
  );
  readonly #artifactBytes = this.#make.counter('plugset_artifact_cache_bytes_total', 'Bytes of the same artifacts.', {
    event: ['hit', 'miss', 'evicted'],
  });
  readonly #artifactFailures = this.#make.counter(
    'plugset_artifact_cache_failures_total',
    'Times that the artifact cache could not be read or written: its disk is full, say, or gone.',
  );
  readonly #engineRequests = this.#make.counter(
    'plugset_engine_requests_total',
    'HTTP requests to Docker engines, by what was asked and how it ended.',
    { engine: ENGINE, request: { late: ENGINE_REQUESTS }, outcome: { late: ENGINE_OUTCOMES } },
  );
  readonly #engineSeconds = this.#make.seconds(
    'plugset_engine_request_duration_seconds',
    'How long engines took to answer; of an exec only its start, of events the opening of the stream.',
    ENGINE_BUCKETS,
    { engine: ENGINE, request: { late: ENGINE_REQUESTS } },
  );
  readonly #engines = new Set<string>();
  readonly #looks = this.#make.counter(
    'plugset_looks_total',
    'Looks at targets: cheap probes and deep looks, by outcome.',
    {
      tier: ['probe', 'deep'],
      outcome: ['unmoved', 'looked', 'unknown'],
    },
  );
  readonly #notifications = this.#make.counter(
    'plugset_notifications_total',
    'Messages to the webhook: taken there, refused there, or dropped here because too many waited or they grew too old.',
    { outcome: ['sent', 'refused', 'dropped'] },
  );
  readonly #notificationRetries = this.#make.counter(
    'plugset_notification_retries_total',
    'Tries to deliver a message to the webhook that failed and are made again.',
  );

  readonly #hosts = new HostMetrics(this.#make);
  readonly #kube = new KubeMetrics(this.#make);
  readonly #fleet: FleetGauges;
  readonly #sources: SourceMetrics;
  readonly #gauges: ControllerGauges;

  constructor(options: PrometheusMetricsOptions) {
    collectDefaultMetrics({ register: this.registry });
    this.#make
      .gauge('plugset_build_info', 'Always 1; what runs is in the labels.', {
        version: { named: 'of plugset' },
        node: { named: 'of Node' },
      })
      .set({ version: options.version, node: process.version }, 1);
    const isKnown = (): boolean => this.#isFleetKnown();
    this.#fleet = new FleetGauges(this.#make, { perWorkspace: options.perWorkspace, isKnown });
    this.#sources = new SourceMetrics(this.#make, isKnown);
    this.#gauges = new ControllerGauges(this.#make, QUEUE, queue);
    this.#registerConfig();
  }

  /** Every metric that is ours, for people: all but those of the Node process. */
  get catalogue(): readonly MetricEntry[] {
    return this.#make.catalogue;
  }

  /** The answer to a scrape. */
  async expose(): Promise<{ readonly contentType: string; readonly body: string }> {
    return { contentType: this.registry.contentType, body: await this.registry.metrics() };
  }

  reconciled(outcome: ReconcileOutcome, seconds: number, error?: ReconcileError): void {
    this.#reconciles.inc({ controller, result: outcome });
    this.#reconcileSeconds.observe({ controller }, seconds);
    if (error !== undefined) this.#failures.inc({ class: error.class, reason: error.reason });
    if (outcome === 'error') this.#errors.inc({ controller });
    if (error?.class === 'terminal') this.#terminalErrors.inc({ controller });
  }

  panicked(): void {
    this.#panics.inc({ controller });
  }

  timedOut(): void {
    this.#timeouts.inc({ controller });
  }

  workers(active: number, limit: number): void {
    this.#activeWorkers.set({ controller }, active);
    this.#maxConcurrent.set({ controller }, limit);
  }

  phase(phase: Phase, seconds: number): void {
    this.#phaseSeconds.observe({ phase }, seconds);
  }

  changed(action: string, cause: string, count: number): void {
    this.#changes.inc({ action, cause }, amount(count));
  }

  restarted(outcome: string): void {
    this.#restarts.inc({ outcome });
  }

  converged(seconds: number): void {
    this.#convergeLag.observe(amount(seconds));
  }

  artifact(event: string, bytes: number): void {
    this.#artifacts.inc({ event });
    this.#artifactBytes.inc({ event }, amount(bytes));
  }

  artifactsUnusable(): void {
    this.#artifactFailures.inc();
  }

  configured(isUsable: boolean, seconds: number): void {
    this.#configUsable = isUsable;
    if (isUsable) this.#configuredSeconds = seconds;
  }

  resolved(scheme: string, outcome: string, seconds: number): void {
    this.#sources.resolved(scheme, outcome, seconds);
  }

  fetched(scheme: string, outcome: string, seconds: number): void {
    this.#sources.fetched(scheme, outcome, seconds);
  }

  engineAsked(engine: string, request: EngineRequest, outcome: EngineOutcome, seconds: number): void {
    this.#beginEngine(engine);
    this.#engineRequests.inc({ engine, request, outcome });
    this.#engineSeconds.observe({ engine, request }, seconds);
  }

  #registerConfig(): void {
    const isGiven = (): boolean => this.#configuredSeconds !== undefined;
    this.#make.readGauge(
      'plugset_config_last_reload_successful',
      '1 while the configuration file can be used, 0 while the settings before stay in force; left out without a file.',
      {},
      (gauge) => gauge.set(this.#configUsable ? 1 : 0),
      isGiven,
    );
    this.#make.readGauge(
      'plugset_config_last_reload_success_timestamp_seconds',
      'When the configuration file was last read and could be used; left out without a file.',
      {},
      (gauge) => gauge.set(this.#configuredSeconds ?? 0),
      isGiven,
    );
  }

  /** Every series of an engine begins at 0 with the first request to it; none of one that nobody uses. */
  #beginEngine(engine: string): void {
    if (this.#engines.has(engine)) return;
    this.#engines.add(engine);
    for (const request of ENGINE_REQUESTS) {
      for (const outcome of ENGINE_OUTCOMES) this.#engineRequests.inc({ engine, request, outcome }, 0);
    }
  }

  awsAsked(region: string, action: AwsAction, outcome: AwsOutcome, seconds: number): void {
    this.#hosts.asked(region, action, outcome, amount(seconds));
  }

  tunnelWaited(seconds: number): void {
    this.#hosts.waited(amount(seconds));
  }

  loggedIn(outcome: LoginOutcome): void {
    this.#hosts.loggedIn(outcome);
  }

  kubeAsked(host: string, method: string, code: string, seconds: number): void {
    this.#kube.asked(host, method, code, amount(seconds));
  }

  kubeListed(resource: string, outcome: string, seconds: number): void {
    this.#kube.listed(resource, outcome, amount(seconds));
  }

  kubeWatchOpened(resource: string): void {
    this.#kube.watchOpened(resource);
  }

  kubeWatchEnded(resource: string, end: WatchEnd): void {
    this.#kube.watchEnded(resource, end);
  }

  kubeMissed(resource: string, changes: number): void {
    this.#kube.missed(resource, changes);
  }

  notified(outcome: string): void {
    this.#notifications.inc({ outcome });
  }

  notificationRetried(): void {
    this.#notificationRetries.inc();
  }

  eventTold(outcome: string): void {
    this.#kube.eventTold(outcome);
  }

  looked(tier: string, outcome: string): void {
    this.#looks.inc({ tier, outcome });
  }

  introduced(key: WorkspaceKey): void {
    this.#fleet.introduce(key);
  }

  declared(key: WorkspaceKey, plugins: readonly DeclaredSource[]): void {
    this.#sources.declare(key, plugins);
  }

  status(key: WorkspaceKey, status: WorkspaceStatus | undefined): void {
    this.#fleet.set(key, status);
    if (status === undefined) this.#sources.declare(key, []);
  }

  leading(isLeader: boolean): void {
    this.#isLeader.set({ name: 'plugset' }, isLeader ? 1 : 0);
    if (isLeader) return;
    this.#isFleetKnown = () => false;
    this.#fleet.clear();
    this.#sources.clear();
    this.#gauges.clear();
  }

  queueAdded(): void {
    this.#queueAdds.inc(queue);
  }

  queueRetried(): void {
    this.#queueRetries.inc(queue);
  }

  queueWaited(seconds: number): void {
    this.#queueSeconds.observe(queue, seconds);
  }

  worked(seconds: number): void {
    this.#workSeconds.observe(queue, seconds);
  }

  observeQueue(read: () => QueueState): void {
    this.#gauges.observeQueue(read);
  }

  observeUnreadable(read: () => number): void {
    this.#fleet.observeUnreadable(read);
  }

  observeLoops(read: () => readonly LoopState[]): void {
    this.#gauges.observeLoops(read);
  }

  observeTunnels(read: () => readonly TunnelState[]): void {
    this.#hosts.observeTunnels(read);
  }

  observeSessions(read: () => number): void {
    this.#hosts.observeSessions(read);
  }

  observeReflectors(read: () => readonly ReflectorState[]): void {
    this.#kube.observeReflectors(read);
  }

  observeSources(read: () => readonly SourceState[]): void {
    this.#sources.observe(read);
  }

  observeFleet(isKnown: () => boolean): void {
    this.#isFleetKnown = isKnown;
  }
}

/** prom-client throws on what is no number, and a counter on what is below 0; a clock that was set back makes the latter. */
function amount(value: number): number {
  return Number.isFinite(value) ? Math.max(0, value) : 0;
}
