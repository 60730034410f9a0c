import { collectDefaultMetrics, Registry } from 'prom-client';

import type { ReconcileError } from '../../domain/errors.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import type { WorkspaceStatus } from '../../domain/status.ts';
import type { LoopState, Metrics, Phase, QueueState, ReconcileOutcome } from '../../ports/metrics.ts';
import { LOW_PRIORITY } from '../../ports/work-queue.ts';
import { Instruments } from './instruments.ts';
import { WorkspaceGauges } from './workspace-gauges.ts';

const OUTCOMES: readonly ReconcileOutcome[] = ['success', 'error', 'requeue', 'requeue_after'];
const PHASES: readonly Phase[] = ['load', 'locate', 'resolve', 'observe', 'plan', 'converge', 'report'];
const ACTIONS = ['install', 'replace', 'restore', 'remove', 'adopt'];

const CONTROLLER = { controller: ['workspace'] };
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
  readonly #workspaces: WorkspaceGauges;
  #readQueue: (() => QueueState) | undefined;
  #readLoops: () => readonly LoopState[] = () => [];

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
    QUEUE,
  );
  readonly #workSeconds = this.#make.seconds('workqueue_work_duration_seconds', 'How long keys were in hand.', QUEUE);
  readonly #isLeader = this.#make.gauge('leader_election_master_status', '1 while this process leads, else 0.', {
    name: ['plugset'],
  });

  readonly #failures = this.#make.counter(
    'plugset_reconcile_failures_total',
    'Passes that failed or had to wait, by class and reason.',
    { class: [], reason: [] },
  );
  readonly #changes = this.#make.counter(
    'plugset_plugin_changes_total',
    'Changes carried out on targets: what was declared (intentional), or the repair of drift (corrective).',
    { action: ACTIONS, cause: ['intentional', 'corrective'] },
  );
  readonly #convergeLag = this.#make.seconds(
    'plugset_converge_lag_seconds',
    'From the write of a declaration to the look that found it converged.',
  );
  readonly #phaseSeconds = this.#make.seconds('plugset_phase_duration_seconds', 'Duration of the phases of passes.', {
    phase: PHASES,
  });
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
  readonly #resolves = this.#make.counter('plugset_source_resolve_total', 'Questions to sources, by outcome.', {
    scheme: [],
    outcome: ['ok', 'error'],
  });
  readonly #resolveSeconds = this.#make.seconds(
    'plugset_source_resolve_duration_seconds',
    'How long sources took to answer.',
    {
      scheme: [],
    },
  );
  readonly #looks = this.#make.counter(
    'plugset_looks_total',
    'Looks at targets: cheap probes and deep looks, by outcome.',
    {
      tier: ['probe', 'deep'],
      outcome: ['unmoved', 'looked', 'unknown'],
    },
  );

  constructor(options: PrometheusMetricsOptions) {
    collectDefaultMetrics({ register: this.registry });
    this.#make
      .gauge('plugset_build_info', 'Always 1; what runs is in the labels.', {
        version: [options.version],
        node: [process.version],
      })
      .set({ version: options.version, node: process.version }, 1);
    this.#workspaces = new WorkspaceGauges(this.registry, options);
    this.#registerQueue();
    this.#registerLoops();
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

  converged(seconds: number): void {
    this.#convergeLag.observe(amount(seconds));
  }

  artifact(event: string, bytes: number): void {
    this.#artifacts.inc({ event });
    this.#artifactBytes.inc({ event }, amount(bytes));
  }

  resolved(scheme: string, outcome: string, seconds: number): void {
    this.#resolves.inc({ scheme, outcome });
    this.#resolveSeconds.observe({ scheme }, seconds);
  }

  looked(tier: string, outcome: string): void {
    this.#looks.inc({ tier, outcome });
  }

  status(key: WorkspaceKey, status: WorkspaceStatus | undefined): void {
    this.#workspaces.set(key, status);
  }

  leading(isLeader: boolean): void {
    this.#isLeader.set({ name: 'plugset' }, isLeader ? 1 : 0);
    if (!isLeader) this.#workspaces.clear();
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
    this.#readQueue = read;
  }

  observeLoops(read: () => readonly LoopState[]): void {
    this.#readLoops = read;
  }

  #registerQueue(): void {
    const labels = { ...QUEUE, priority: ['0', String(LOW_PRIORITY)] };
    this.#make.readGauge('workqueue_depth', 'Ready keys by priority.', labels, (gauge) => {
      for (const [priority, keys] of this.#readQueue?.().depth ?? []) gauge.set({ ...queue, priority }, keys);
    });
    const read = (name: string, help: string, value: (state: QueueState) => number): void => {
      this.#make.readGauge(name, help, QUEUE, (gauge) => {
        if (this.#readQueue !== undefined) gauge.set(queue, value(this.#readQueue()));
      });
    };
    read('workqueue_unfinished_work_seconds', 'Age of all passes under way, added up.', (now) => now.unfinishedSeconds);
    read(
      'workqueue_longest_running_processor_seconds',
      'Age of the oldest pass under way.',
      (now) => now.longestRunningSeconds,
    );
    read(
      'plugset_queue_oldest_waiting_seconds',
      'How long the longest waiting ready key has waited.',
      (now) => now.oldestWaitingSeconds,
    );
    read(
      'plugset_queue_delayed',
      'Keys that are not due yet: periodic looks, waits and backoff.',
      (now) => now.delayed,
    );
  }

  #registerLoops(): void {
    const loop = { loop: [] };
    this.#make.readGauge('plugset_loop_idle_seconds', 'Since a background loop last got somewhere.', loop, (gauge) => {
      for (const { name, idleSeconds } of this.#readLoops()) gauge.set({ loop: name }, idleSeconds);
    });
    this.#make.readGauge(
      'plugset_loop_stalled',
      '1 while a background loop is silent for longer than it may be.',
      loop,
      (gauge) => {
        for (const { name, stalled } of this.#readLoops()) gauge.set({ loop: name }, stalled ? 1 : 0);
      },
    );
    this.#make.readCounter('plugset_loop_restarts_total', 'Restarts of background loops.', loop, (counter) => {
      for (const { name, restarts } of this.#readLoops()) counter.inc({ loop: name }, restarts);
    });
  }
}

/** prom-client throws on what is no number, and a counter on what is below 0; a clock that was set back makes the latter. */
function amount(value: number): number {
  return Number.isFinite(value) ? Math.max(0, value) : 0;
}
