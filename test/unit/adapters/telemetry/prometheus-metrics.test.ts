import { describe, expect, test } from 'vitest';

import { PrometheusMetrics } from '../../../../src/adapters/telemetry/prometheus-metrics.ts';
import type { Condition, ConditionType } from '../../../../src/domain/condition.ts';
import { transient, terminal } from '../../../../src/domain/errors.ts';
import { workspaceKey } from '../../../../src/domain/name.ts';
import {
  EMPTY_STATUS,
  type HoldReason,
  type PluginState,
  type WorkspaceStatus,
} from '../../../../src/domain/status.ts';
import type { Reason } from '../../../../src/domain/reason.ts';
import { labelValues, lintExposition } from '../../../support/exposition.ts';

function create(perWorkspace = false): PrometheusMetrics {
  return new PrometheusMetrics({ version: '0.1.0', perWorkspace });
}

/** The samples of some metrics, as `name{labels} value` without histogram buckets. */
async function samples(metrics: PrometheusMetrics, ...names: string[]): Promise<string[]> {
  const { body } = await metrics.expose();
  const ofNames = (line: string): boolean => names.some((name) => new RegExp(`^${name}(_sum|_count)?[{ ]`).test(line));
  return body.split('\n').filter(ofNames);
}

async function labelNames(metrics: PrometheusMetrics): Promise<Record<string, readonly string[]>> {
  const { families } = lintExposition((await metrics.expose()).body);
  return Object.fromEntries(families.map(({ name, labels }) => [name, labels]));
}

function statusOf(
  ready: 'True' | 'False' | 'Unknown',
  reason: Reason,
  states: PluginState[],
  drifted = false,
): WorkspaceStatus {
  const condition = { reason, message: '', observedGeneration: 1, lastTransitionTime: '2026-01-01T00:00:00Z' };
  return {
    ...EMPTY_STATUS,
    conditions: [
      { ...condition, type: 'Ready', status: ready },
      ...(drifted ? [{ ...condition, type: 'Drifted' as const, status: 'True' as const }] : []),
    ],
    plugins: states.map((state, index) => ({
      name: `p${index}` as never,
      state,
      managed: true,
      reason: 'Succeeded',
      message: '',
      since: '2026-01-01T00:00:00Z',
    })),
  };
}

describe('names', () => {
  // reference/controllers.md B.4. `rest_client_*` there is the client of the Kubernetes API, and alerts of others take it
  // for that: requests to Docker engines have names of their own.
  const CONTROLLER_RUNTIME = {
    controller_runtime_reconcile_total: ['controller', 'result'],
    controller_runtime_reconcile_errors_total: ['controller'],
    controller_runtime_terminal_reconcile_errors_total: ['controller'],
    controller_runtime_reconcile_panics_total: ['controller'],
    controller_runtime_reconcile_timeouts_total: ['controller'],
    controller_runtime_reconcile_time_seconds: ['controller'],
    controller_runtime_max_concurrent_reconciles: ['controller'],
    controller_runtime_active_workers: ['controller'],
    workqueue_depth: ['controller', 'name', 'priority'],
    workqueue_adds_total: ['controller', 'name'],
    workqueue_queue_duration_seconds: ['controller', 'name'],
    workqueue_work_duration_seconds: ['controller', 'name'],
    workqueue_unfinished_work_seconds: ['controller', 'name'],
    workqueue_longest_running_processor_seconds: ['controller', 'name'],
    workqueue_retries_total: ['controller', 'name'],
    leader_election_master_status: ['name'],
  };

  test('those of controller-runtime are there from the first scrape on, with exactly its labels', async () => {
    const metrics = create();
    metrics.observeQueue(() => ({
      depth: new Map(),
      delayed: 0,
      oldestWaitingSeconds: 0,
      unfinishedSeconds: 0,
      longestRunningSeconds: 0,
    }));
    const found = Object.entries(await labelNames(metrics)).filter(([name]) =>
      /^(controller_runtime|workqueue|leader_election)_/.test(name),
    );
    expect(Object.fromEntries(found)).toEqual(CONTROLLER_RUNTIME);
  });

  test('those of client-go come with the first request', async () => {
    const metrics = create();
    fill(metrics);
    expect(await labelNames(metrics)).toMatchObject({
      rest_client_requests_total: ['code', 'host', 'method'],
      rest_client_request_duration_seconds: ['host', 'verb'],
    });
  });

  test('every series whose labels are known starts at 0', async () => {
    const metrics = create();
    expect(await samples(metrics, 'controller_runtime_reconcile_total')).toEqual([
      'controller_runtime_reconcile_total{controller="workspace",result="success"} 0',
      'controller_runtime_reconcile_total{controller="workspace",result="error"} 0',
      'controller_runtime_reconcile_total{controller="workspace",result="requeue"} 0',
      'controller_runtime_reconcile_total{controller="workspace",result="requeue_after"} 0',
    ]);
    expect(await samples(metrics, 'workqueue_depth')).toEqual([
      'workqueue_depth{name="workspace",controller="workspace",priority="0"} 0',
      'workqueue_depth{name="workspace",controller="workspace",priority="-100"} 0',
    ]);
    expect(await samples(metrics, 'leader_election_master_status')).toEqual([
      'leader_election_master_status{name="plugset"} 0',
    ]);
    expect(await samples(metrics, 'plugset_plugin_changes_total')).toHaveLength(12);
    expect(await samples(metrics, 'plugset_looks_total')).toHaveLength(6);
  });

  test('our own', async () => {
    const metrics = create(true);
    const found = Object.keys(await labelNames(metrics)).filter((name) => name.startsWith('plugset_'));
    expect(found.toSorted()).toEqual([
      'plugset_activation_pending_workspaces',
      'plugset_artifact_cache_bytes_total',
      'plugset_artifact_cache_events_total',
      'plugset_artifact_cache_failures_total',
      'plugset_aws_request_duration_seconds',
      'plugset_aws_requests_total',
      'plugset_build_info',
      'plugset_config_last_reload_success_timestamp_seconds',
      'plugset_config_last_reload_successful',
      'plugset_converge_lag_seconds',
      'plugset_drifted_workspaces',
      'plugset_engine_request_duration_seconds',
      'plugset_engine_requests_total',
      'plugset_held_workspaces',
      'plugset_kube_events_total',
      'plugset_kube_list_duration_seconds',
      'plugset_kube_lists_total',
      'plugset_kube_objects',
      'plugset_kube_silent_seconds',
      'plugset_kube_synced',
      'plugset_kube_watch_cache_misses_total',
      'plugset_kube_watch_ends_total',
      'plugset_kube_watches_total',
      'plugset_left_behind_workspaces',
      'plugset_looks_total',
      'plugset_loop_idle_seconds',
      'plugset_loop_restarts_total',
      'plugset_loop_stalled',
      'plugset_notification_retries_total',
      'plugset_notifications_total',
      'plugset_phase_duration_seconds',
      'plugset_plugin_changes_total',
      'plugset_plugins',
      'plugset_queue_delayed',
      'plugset_queue_oldest_waiting_seconds',
      'plugset_reason_workspaces',
      'plugset_reconcile_failures_total',
      'plugset_restarts_total',
      'plugset_source_declared_plugins',
      'plugset_source_fetch_duration_seconds',
      'plugset_source_fetch_total',
      'plugset_source_followed_repositories',
      'plugset_source_last_success_timestamp_seconds',
      'plugset_source_resolve_duration_seconds',
      'plugset_source_resolve_total',
      'plugset_ssh_logins_total',
      'plugset_ssh_sessions',
      'plugset_stalled_workspaces',
      'plugset_tunnel_wait_seconds',
      'plugset_tunnels_limit',
      'plugset_tunnels_open',
      'plugset_unreadable_declarations',
      'plugset_workspace_info',
      'plugset_workspace_plugins',
      'plugset_workspace_ready',
      'plugset_workspaces',
    ]);
  });

  test('the process speaks for itself, event loop lag included', async () => {
    const names = Object.keys(await labelNames(create()));
    expect(names).toEqual(expect.arrayContaining(['process_cpu_seconds_total', 'nodejs_eventloop_lag_p99_seconds']));
  });

  test('the exposition is well-formed, filled or not', async () => {
    const metrics = create(true);
    expect(lintExposition((await metrics.expose()).body).problems).toEqual([]);
    fill(metrics);
    expect(lintExposition((await metrics.expose()).body).problems).toEqual([]);
    expect((await metrics.expose()).contentType).toBe('text/plain; version=0.0.4; charset=utf-8');
  });

  test('two instances share nothing', async () => {
    const [one, other] = [create(), create()];
    one.panicked();
    expect(await samples(other, 'controller_runtime_reconcile_panics_total')).toEqual([
      'controller_runtime_reconcile_panics_total{controller="workspace"} 0',
    ]);
  });
});

describe('buckets', () => {
  const bounds = async (name: string): Promise<readonly number[]> => {
    const metrics = create();
    fill(metrics);
    const { body } = await metrics.expose();
    const found = [...body.matchAll(new RegExp(`^${name}_bucket{le="([^"]+)"`, 'gm'))].map(([, le]) => Number(le));
    return [...new Set(found.filter(Number.isFinite))];
  };

  /** What was measured (seconds), and how far apart the bounds around it may be. */
  test.each([
    ['a probe', 'plugset_phase_duration_seconds', 0.004, 2],
    ['an exec', 'plugset_phase_duration_seconds', 0.05, 2],
    ['a first converge', 'plugset_phase_duration_seconds', 0.12, 2],
    ['a pass with an unmoved probe', 'controller_runtime_reconcile_time_seconds', 0.004, 2],
    ['the start of an exec', 'plugset_engine_request_duration_seconds', 0.045, 2],
    ['an answer of a forge', 'plugset_source_resolve_duration_seconds', 0.4, 2.5],
    ['an answer of AWS', 'plugset_aws_request_duration_seconds', 0.25, 2],
    ['a call to Kubernetes', 'rest_client_request_duration_seconds', 0.004, 2.5],
    ['a list of 10,000 objects', 'plugset_kube_list_duration_seconds', 0.8, 2],
    ['a quick fetch', 'plugset_source_fetch_duration_seconds', 2, 2.5],
    ['a slow fetch', 'plugset_source_fetch_duration_seconds', 75, 2],
    ['an edit in Postgres on its way to the disk', 'plugset_converge_lag_seconds', 0.15, 2.5],
  ])('tell %s from what is half or twice as long', async (_what, name, seconds, factor) => {
    const all = await bounds(name);
    const below = Math.max(...all.filter((bound) => bound <= seconds));
    const above = Math.min(...all.filter((bound) => bound >= seconds));
    expect(above / below).toBeLessThanOrEqual(factor);
  });

  /** Deadlines that end what is measured. */
  test.each([
    ['controller_runtime_reconcile_time_seconds', 600],
    ['plugset_phase_duration_seconds', 600],
    ['plugset_engine_request_duration_seconds', 10],
    ['plugset_source_resolve_duration_seconds', 60],
    ['plugset_aws_request_duration_seconds', 20],
    ['plugset_tunnel_wait_seconds', 20],
    ['rest_client_request_duration_seconds', 60],
    ['plugset_source_fetch_duration_seconds', 180],
  ])('of %s reach its deadline, %i s', async (name, seconds) => {
    expect(Math.max(...(await bounds(name)))).toBeGreaterThanOrEqual(seconds);
  });
});

describe('labels', () => {
  test('have no value but those that the catalogue lists, and those that the operator gives names to', async () => {
    const metrics = create(true);
    fill(metrics);
    const { body } = await metrics.expose();
    const { problems, values } = labelValues(body, metrics.catalogue);
    expect(problems).toEqual([]);
    // What is named: by configuration, by the build, and, opted in, by workspaces.
    expect(values.get('engine')).toEqual(new Set(['default']));
    expect(values.get('region')).toEqual(new Set(['eu-west-1']));
    expect(values.get('endpoint')).toEqual(new Set(['eice-1']));
    expect(values.get('host')).toEqual(new Set(['127.0.0.1:6443']));
    expect(values.get('resource')).toEqual(new Set(['workspaces']));
    expect(values.get('scheme')).toEqual(new Set(['github']));
    expect(values.get('loop')).toEqual(new Set(['resync']));
    expect(values.get('name')).toEqual(new Set(['workspace', 'plugset', 'alice']));
  });

  test('are listed for every metric there is', async () => {
    const metrics = create(true);
    const families = metrics.registry.getMetricsAsArray().map(({ name }) => name);
    const ours = families.filter((name) => !/^(?:process|nodejs)_/.test(name));
    expect(metrics.catalogue.map(({ name }) => name)).toEqual(ours);
  });

  test('series per workspace are all that a fleet makes more of', async () => {
    const count = async (perWorkspace: boolean, workspaces: number): Promise<number> => {
      const metrics = create(perWorkspace);
      lead(metrics);
      for (let n = 0; n < workspaces; n++) {
        const key = workspaceKey('team-a', `w${n}`);
        metrics.status(key, statusOf('True', 'Succeeded', ['Installed', 'Failed']));
        metrics.declared(key, [{ scheme: 'github', tracking: 'moving' }]);
        metrics.reconciled('success', 0.1);
      }
      const { body } = await metrics.expose();
      return body.split('\n').filter((line) => line !== '' && !/^(?:#|process_|nodejs_)/.test(line)).length;
    };
    expect(await count(false, 1000)).toBe(await count(false, 1));
    expect((await count(true, 100)) - (await count(true, 1))).toBe(99 * 4);
  });
});

describe('counting', () => {
  test('passes', async () => {
    const metrics = create();
    metrics.reconciled('success', 1);
    metrics.reconciled('error', 2, transient('Unreachable', 'no route'));
    metrics.reconciled('error', 3, terminal('InvalidSpec', 'no such runtime'));
    metrics.timedOut();
    metrics.workers(3, 32);
    const names = [
      'reconcile_errors_total',
      'terminal_reconcile_errors_total',
      'reconcile_timeouts_total',
      'reconcile_time_seconds',
    ];
    const all = await samples(metrics, ...names.map((name) => `controller_runtime_${name}`));
    expect(all).toEqual([
      'controller_runtime_reconcile_errors_total{controller="workspace"} 2',
      'controller_runtime_terminal_reconcile_errors_total{controller="workspace"} 1',
      'controller_runtime_reconcile_timeouts_total{controller="workspace"} 1',
      'controller_runtime_reconcile_time_seconds_sum{controller="workspace"} 6',
      'controller_runtime_reconcile_time_seconds_count{controller="workspace"} 3',
    ]);
    expect(await samples(metrics, 'plugset_reconcile_failures_total', 'controller_runtime_active_workers')).toEqual([
      'controller_runtime_active_workers{controller="workspace"} 3',
      'plugset_reconcile_failures_total{class="transient",reason="Unreachable"} 1',
      'plugset_reconcile_failures_total{class="terminal",reason="InvalidSpec"} 1',
    ]);
  });

  test('requests to engines: every series of an engine begins at 0 with the first', async () => {
    const metrics = create();
    metrics.engineAsked('default', 'exec_start', 'ok', 0.04);
    metrics.engineAsked('default', 'exec_start', 'unanswered', 10);
    const counted = await samples(metrics, 'plugset_engine_requests_total');
    const outcomes = ['ok', 'not_found', 'refused', 'error', 'unanswered', 'called_off'];
    for (const outcome of outcomes)
      expect(counted.filter((line) => line.includes(`outcome="${outcome}"`))).toHaveLength(counted.length / 6);
    expect(counted.filter((line) => !line.endsWith(' 0'))).toEqual([
      'plugset_engine_requests_total{engine="default",request="exec_start",outcome="ok"} 1',
      'plugset_engine_requests_total{engine="default",request="exec_start",outcome="unanswered"} 1',
    ]);
    expect(await samples(metrics, 'plugset_engine_request_duration_seconds')).toEqual([
      'plugset_engine_request_duration_seconds_sum{engine="default",request="exec_start"} 10.04',
      'plugset_engine_request_duration_seconds_count{engine="default",request="exec_start"} 2',
    ]);
  });

  test('the way to hosts: questions to a region begin at 0 with the first, tunnels are told while there are some', async () => {
    const metrics = create();
    expect(await samples(metrics, 'plugset_aws_requests_total', 'plugset_tunnels_open')).toEqual([]);
    metrics.awsAsked('eu-west-1', 'SendSSHPublicKey', 'ok', 0.2);
    metrics.loggedIn('host_key');
    let tunnels = [{ endpoint: 'eice-1', open: 3, limit: 16 }];
    metrics.observeTunnels(() => tunnels);
    metrics.observeSessions(() => 4);
    const counted = await samples(metrics, 'plugset_aws_requests_total');
    expect(counted).toHaveLength(5 * 6);
    expect(counted.filter((line) => !line.endsWith(' 0'))).toEqual([
      'plugset_aws_requests_total{region="eu-west-1",action="SendSSHPublicKey",outcome="ok"} 1',
    ]);
    // Their durations only with each: one that never happened has no bounds.
    expect(await samples(metrics, 'plugset_aws_request_duration_seconds')).toEqual([
      'plugset_aws_request_duration_seconds_sum{region="eu-west-1",action="SendSSHPublicKey",outcome="ok"} 0.2',
      'plugset_aws_request_duration_seconds_count{region="eu-west-1",action="SendSSHPublicKey",outcome="ok"} 1',
    ]);
    expect(await samples(metrics, 'plugset_tunnels_open', 'plugset_tunnels_limit', 'plugset_ssh_sessions')).toEqual([
      'plugset_tunnels_open{endpoint="eice-1"} 3',
      'plugset_tunnels_limit{endpoint="eice-1"} 16',
      'plugset_ssh_sessions 4',
    ]);
    expect(await samples(metrics, 'plugset_ssh_logins_total')).toContain(
      'plugset_ssh_logins_total{outcome="host_key"} 1',
    );
    tunnels = [];
    expect(await samples(metrics, 'plugset_tunnels_open')).toEqual([]);
  });

  test('no number makes it throw', async () => {
    const metrics = create();
    metrics.converged(Number.NaN);
    metrics.converged(-5);
    metrics.artifact('hit', -1);
    metrics.changed('install', 'intentional', Infinity);
    expect(await samples(metrics, 'plugset_converge_lag_seconds')).toEqual([
      'plugset_converge_lag_seconds_sum 0',
      'plugset_converge_lag_seconds_count 2',
    ]);
  });

  test('the queue and the loops are read at the scrape; a later source takes the place of an earlier one', async () => {
    const metrics = create();
    const state = {
      depth: new Map([[5, 2]]),
      delayed: 7,
      oldestWaitingSeconds: 1.5,
      unfinishedSeconds: 4,
      longestRunningSeconds: 3,
    };
    metrics.observeQueue(() => ({ ...state, depth: new Map() }));
    metrics.observeQueue(() => state);
    metrics.observeLoops(() => [{ name: 'resync', idleSeconds: 9, stalled: true, restarts: 2 }]);
    expect(await samples(metrics, 'workqueue_depth')).toContain(
      'workqueue_depth{name="workspace",controller="workspace",priority="5"} 2',
    );
    expect(
      await samples(metrics, 'plugset_queue_delayed', 'plugset_loop_stalled', 'plugset_loop_restarts_total'),
    ).toEqual([
      'plugset_queue_delayed{name="workspace",controller="workspace"} 7',
      'plugset_loop_stalled{loop="resync"} 1',
      'plugset_loop_restarts_total{loop="resync"} 2',
    ]);
    expect(await samples(metrics, 'plugset_loop_restarts_total')).toEqual([
      'plugset_loop_restarts_total{loop="resync"} 2',
    ]);
  });
});

describe('copies of objects of Kubernetes', () => {
  test('every way in which a watch can end is there from the first list on', async () => {
    const metrics = create();
    expect(await samples(metrics, 'plugset_kube_watch_ends_total')).toEqual([]);
    metrics.kubeListed('pods', 'ok', 0.1);
    expect(await samples(metrics, 'plugset_kube_watch_ends_total')).toHaveLength(9);
    expect(await samples(metrics, 'plugset_kube_watch_cache_misses_total', 'plugset_kube_watches_total')).toEqual([
      'plugset_kube_watches_total{resource="pods"} 0',
      'plugset_kube_watch_cache_misses_total{resource="pods"} 0',
    ]);
    metrics.kubeWatchEnded('pods', 'expired');
    metrics.kubeMissed('pods', 2);
    const ended = await samples(metrics, 'plugset_kube_watch_ends_total');
    expect(ended).toContain('plugset_kube_watch_ends_total{resource="pods",end="expired"} 1');
    expect(await samples(metrics, 'plugset_kube_watch_cache_misses_total')).toEqual([
      'plugset_kube_watch_cache_misses_total{resource="pods"} 2',
    ]);
  });

  test('are read at each scrape', async () => {
    const metrics = create();
    const state = { resource: 'pods', objects: 0, isSynced: false, silentSeconds: 12 };
    metrics.observeReflectors(() => [state, { ...state, resource: 'workspaces', objects: 3, isSynced: true }]);
    expect(await samples(metrics, 'plugset_kube_objects', 'plugset_kube_synced')).toEqual([
      'plugset_kube_objects{resource="pods"} 0',
      'plugset_kube_objects{resource="workspaces"} 3',
      'plugset_kube_synced{resource="pods"} 0',
      'plugset_kube_synced{resource="workspaces"} 1',
    ]);
  });
});

describe('the configuration file', () => {
  const both = (metrics: PrometheusMetrics): Promise<string[]> =>
    samples(metrics, 'plugset_config_last_reload_successful', 'plugset_config_last_reload_success_timestamp_seconds');

  test('is not spoken of where there is none; one that cannot be used leaves the time of the last that could', async () => {
    const metrics = create();
    expect(await both(metrics)).toEqual([]);
    metrics.configured(true, 100);
    metrics.configured(false, 105);
    expect(await both(metrics)).toEqual([
      'plugset_config_last_reload_successful 0',
      'plugset_config_last_reload_success_timestamp_seconds 100',
    ]);
  });
});

describe('workspaces', () => {
  const alice = workspaceKey('team-a', 'alice');
  const bob = workspaceKey('team-b', 'bob');

  test('totals follow the newest status of each', async () => {
    const metrics = create();
    lead(metrics);
    metrics.status(alice, statusOf('False', 'PluginNotFound', ['Failed']));
    metrics.status(alice, statusOf('True', 'Succeeded', ['Installed', 'Installed', 'Unmanaged']));
    metrics.status(bob, statusOf('False', 'Unreachable', ['Unknown'], true));
    expect(
      await samples(metrics, 'plugset_workspaces', 'plugset_drifted_workspaces', 'plugset_reason_workspaces'),
    ).toEqual([
      'plugset_workspaces{ready="True"} 1',
      'plugset_workspaces{ready="False"} 1',
      'plugset_workspaces{ready="Unknown"} 0',
      'plugset_workspaces{ready="Held"} 0',
      'plugset_workspaces{ready="Idle"} 0',
      'plugset_reason_workspaces{ready="True",reason="Succeeded"} 1',
      'plugset_reason_workspaces{ready="False",reason="Unreachable"} 1',
      'plugset_drifted_workspaces 1',
    ]);
    expect((await samples(metrics, 'plugset_plugins')).filter((line) => !line.endsWith(' 0'))).toEqual([
      'plugset_plugins{state="Installed"} 2',
      'plugset_plugins{state="Unmanaged"} 1',
      'plugset_plugins{state="Unknown"} 1',
    ]);
  });

  test('changes that wait for a word of a person are no failure, and seen even beside one', async () => {
    const metrics = create(true);
    lead(metrics);
    const hold = (reason: HoldReason): WorkspaceStatus['held'] => ({ reason, message: '', changes: [] });
    metrics.status(alice, { ...statusOf('False', 'PruneHeld', []), held: hold('PruneHeld') });
    const failing = statusOf('False', 'PluginNotFound', ['Failed']);
    const [ready] = failing.conditions;
    const also = (type: ConditionType, reason: Reason): Condition => ({ ...ready!, type, status: 'True', reason });
    const conditions = [
      ...failing.conditions,
      also('Stalled', 'PluginNotFound'),
      also('ActivationPending', 'RestartDeferred'),
      also('LeftBehind', 'Unreachable'),
    ];
    metrics.status(bob, { ...failing, conditions, held: hold('PruneHeld') });
    const found = await samples(
      metrics,
      'plugset_workspaces',
      'plugset_held_workspaces',
      'plugset_stalled_workspaces',
      'plugset_activation_pending_workspaces',
      'plugset_left_behind_workspaces',
    );
    expect(found.filter((line) => !line.endsWith(' 0'))).toEqual([
      'plugset_workspaces{ready="False"} 1',
      'plugset_workspaces{ready="Held"} 1',
      'plugset_activation_pending_workspaces{reason="RestartDeferred"} 1',
      'plugset_stalled_workspaces{reason="PluginNotFound"} 1',
      'plugset_held_workspaces{reason="PruneHeld"} 2',
      'plugset_left_behind_workspaces{reason="Unreachable"} 1',
    ]);
    expect(await samples(metrics, 'plugset_workspace_ready')).toEqual([
      'plugset_workspace_ready{namespace="team-a",name="alice"} 0',
      'plugset_workspace_ready{namespace="team-b",name="bob"} 0',
    ]);
  });

  test('series per workspace are opt-in, and go with it', async () => {
    const silent = create(false);
    lead(silent);
    silent.status(alice, statusOf('True', 'Succeeded', ['Installed']));
    expect((await silent.expose()).body).not.toContain('alice');

    const metrics = create(true);
    lead(metrics);
    metrics.status(alice, statusOf('True', 'Succeeded', ['Installed', 'Installed']));
    metrics.status(bob, statusOf('False', 'Unreachable', []));
    expect(await samples(metrics, 'plugset_workspace_ready', 'plugset_workspace_plugins')).toEqual([
      'plugset_workspace_ready{namespace="team-a",name="alice"} 1',
      'plugset_workspace_ready{namespace="team-b",name="bob"} 0',
      'plugset_workspace_plugins{namespace="team-a",name="alice",state="Installed"} 2',
    ]);
    metrics.status(alice, undefined);
    const { body } = await metrics.expose();
    expect(body).not.toContain('alice');
    expect(body).toContain('bob');
  });

  test('whoever stops leading reports no workspaces', async () => {
    const metrics = create(true);
    lead(metrics);
    metrics.status(alice, statusOf('True', 'Succeeded', ['Installed']));
    expect(await samples(metrics, 'leader_election_master_status')).toEqual([
      'leader_election_master_status{name="plugset"} 1',
    ]);
    metrics.leading(false);
    expect((await metrics.expose()).body).not.toContain('alice');
    expect(await samples(metrics, 'plugset_workspaces', 'plugset_drifted_workspaces')).toEqual([]);
  });
});

/** As whoever has just won the lease and read the list. */
function lead(metrics: PrometheusMetrics): void {
  metrics.leading(true);
  metrics.observeFleet(() => true);
}

function fill(metrics: PrometheusMetrics): void {
  const alice = workspaceKey('team-a', 'alice');
  lead(metrics);
  metrics.introduced(alice);
  metrics.status(alice, statusOf('True', 'Succeeded', ['Installed'], true));
  metrics.declared(alice, [{ scheme: 'github', tracking: 'moving' }]);
  metrics.reconciled('error', 0.1, transient('Unreachable', 'no route'));
  metrics.phase('observe', 0.05);
  metrics.changed('install', 'corrective', 2);
  metrics.converged(3);
  metrics.artifact('miss', 1024);
  metrics.artifactsUnusable();
  metrics.configured(true, 1_700_000_000);
  metrics.resolved('github', 'ok', 0.3);
  metrics.fetched('github', 'error', 12);
  metrics.engineAsked('default', 'inspect', 'ok', 0.001);
  metrics.awsAsked('eu-west-1', 'OpenTunnel', 'throttled', 3);
  metrics.tunnelWaited(0.2);
  metrics.loggedIn('ok');
  metrics.observeTunnels(() => [{ endpoint: 'eice-1', open: 3, limit: 16 }]);
  metrics.observeSessions(() => 3);
  metrics.kubeAsked('127.0.0.1:6443', 'PATCH', '409', 0.004);
  metrics.kubeListed('workspaces', 'ok', 0.8);
  metrics.kubeWatchOpened('workspaces');
  metrics.kubeWatchEnded('workspaces', 'silent');
  metrics.kubeMissed('workspaces', 1);
  metrics.observeReflectors(() => [{ resource: 'workspaces', objects: 3, isSynced: true, silentSeconds: 2 }]);
  metrics.looked('deep', 'looked');
  metrics.observeLoops(() => [{ name: 'resync', idleSeconds: 1, stalled: false, restarts: 0 }]);
  metrics.observeSources(() => [
    { scheme: 'github', followed: { ok: 1, error: 0 }, lastSuccessSeconds: 1_700_000_000 },
  ]);
}
