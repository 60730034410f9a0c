import { isDeepStrictEqual } from 'node:util';

import { findCondition, type Condition, type ConditionType } from '../../domain/condition.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { isIdle, REASONS, type Reason } from '../../domain/reason.ts';
import type { HoldReason, PendingActivation, PluginState, WorkspaceStatus } from '../../domain/status.ts';
import type { Instruments } from './instruments.ts';

const PLUGIN_STATES: readonly PluginState[] = [
  'Installed',
  'Pending',
  'Drifted',
  'Failed',
  'Removing',
  'Held',
  'Unmanaged',
  'Unknown',
];

/**
 * The status of the Ready condition, but for two states that nobody is to be woken for as for a failure: of those that
 * nobody works on it says `Unknown`, and of those whose changes wait for a word of a person, `False`.
 */
const READY = ['True', 'False', 'Unknown', 'Held', 'Idle'] as const;

const HOLDS: readonly HoldReason[] = ['ObserveOnly', 'AwaitingApproval', 'Paused', 'PruneHeld'];

const ACTIVATION_REASONS: readonly PendingActivation['reason'][] = [
  'RestartPending',
  'RestartDeferred',
  'RestartRepeated',
  'RestartFailed',
  'RestartNever',
  'NotDurable',
];

/** What of a status ends up in gauges; the status itself is not kept alive. */
interface Facts {
  readonly ready: (typeof READY)[number];
  readonly reason: Reason;
  readonly isDrifted: boolean;
  /** Why it never becomes Ready without a person. */
  readonly stalled: Reason | undefined;
  /** Why changes wait, be that what the Ready condition tells or not. */
  readonly held: HoldReason | undefined;
  /** Why its runtime has not taken up what was changed. */
  readonly unactivated: Reason | undefined;
  /** Why something of ours still lies where it was before its declaration moved it. */
  readonly leftBehind: Reason | undefined;
  readonly plugins: ReadonlyMap<PluginState, number>;
}

/** Declared, and no pass has ended. */
const UNSEEN: Facts = {
  ready: 'Unknown',
  reason: 'Progressing',
  isDrifted: false,
  stalled: undefined,
  held: undefined,
  unactivated: undefined,
  leftBehind: undefined,
  plugins: new Map(),
};

export interface FleetGaugesOptions {
  /** Also series per workspace. Their number grows with the fleet, so only where that is wanted. */
  readonly perWorkspace: boolean;
  /** Whether the fleet is known right now; else there are no series. */
  readonly isKnown: () => boolean;
}

/**
 * Gauges over the workspaces, computed at each scrape from the newest status of each: one that is gone leaves none, and a
 * process that does not know the fleet says nothing, rather than 0.
 */
export class FleetGauges {
  readonly #facts = new Map<WorkspaceKey, Facts>();
  readonly #make: Instruments;
  readonly #isKnown: () => boolean;

  #readUnreadable: () => number = () => 0;

  constructor(make: Instruments, options: FleetGaugesOptions) {
    this.#make = make;
    this.#isKnown = options.isKnown;
    this.#registerTotals();
    this.#registerWaiting();
    this.#registerMoved();
    make.readGauge(
      'plugset_unreadable_declarations',
      'Files of declarations, or namespaces of custom resources, that cannot be read and show in no workspace, since nobody can tell which they name; what they said before stands.',
      {},
      (gauge) => gauge.set(this.#readUnreadable()),
      this.#isKnown,
    );
    if (options.perWorkspace) this.#registerPerWorkspace();
  }

  introduce(key: WorkspaceKey): void {
    if (!this.#facts.has(key)) this.#facts.set(key, UNSEEN);
  }

  set(key: WorkspaceKey, status: WorkspaceStatus | undefined): void {
    if (status === undefined) {
      this.#facts.delete(key);
      return;
    }
    const facts = factsOf(status);
    // What lives long stays where it is: a new copy each pass is what fills the heap of a large fleet.
    if (!isDeepStrictEqual(facts, this.#facts.get(key))) this.#facts.set(key, facts);
  }

  observeUnreadable(read: () => number): void {
    this.#readUnreadable = read;
  }

  clear(): void {
    this.#facts.clear();
    this.#readUnreadable = () => 0;
  }

  #registerTotals(): void {
    const make = this.#make;
    make.readGauge(
      'plugset_workspaces',
      'Workspaces by the status of their Ready condition; Held: changes wait for a word of a person; Idle: suspended or external, which nobody looks at.',
      { ready: READY },
      (gauge) => {
        for (const { ready } of this.#facts.values()) gauge.inc({ ready });
      },
      this.#isKnown,
    );
    make.readGauge(
      'plugset_reason_workspaces',
      'Workspaces by the reason of their Ready condition; reasons that none has are left out.',
      { ready: { late: READY }, reason: { late: Object.keys(REASONS) } },
      (gauge) => {
        for (const { ready, reason } of this.#facts.values()) gauge.inc({ ready, reason });
      },
      this.#isKnown,
    );
    make.readGauge(
      'plugset_plugins',
      'Plugins of all workspaces by state.',
      { state: PLUGIN_STATES },
      (gauge) => {
        for (const { plugins } of this.#facts.values()) {
          for (const [state, count] of plugins) gauge.inc({ state }, count);
        }
      },
      this.#isKnown,
    );
    make.readGauge(
      'plugset_drifted_workspaces',
      'Workspaces whose target differs from what was converged, and policy says to leave it.',
      {},
      (gauge) => {
        gauge.set([...this.#facts.values()].filter((facts) => facts.isDrifted).length);
      },
      this.#isKnown,
    );
  }

  #registerWaiting(): void {
    this.#make.readGauge(
      'plugset_activation_pending_workspaces',
      'Workspaces with all files in place whose runtime has not taken them up, by why.',
      { reason: ACTIVATION_REASONS },
      (gauge) => {
        for (const { unactivated } of this.#facts.values())
          if (unactivated !== undefined) gauge.inc({ reason: unactivated });
      },
      this.#isKnown,
    );
    this.#make.readGauge(
      'plugset_stalled_workspaces',
      'Workspaces that are not as declared until a person does something, by the reason of their Stalled condition; reasons that none has are left out.',
      { reason: { late: Object.keys(REASONS) } },
      (gauge) => {
        for (const { stalled } of this.#facts.values()) if (stalled !== undefined) gauge.inc({ reason: stalled });
      },
      this.#isKnown,
    );
    this.#make.readGauge(
      'plugset_held_workspaces',
      'Workspaces with changes that mode, approval, pause or guard hold back, also where they have another problem besides.',
      { reason: HOLDS },
      (gauge) => {
        for (const { held } of this.#facts.values()) if (held !== undefined) gauge.inc({ reason: held });
      },
      this.#isKnown,
    );
  }

  #registerMoved(): void {
    this.#make.readGauge(
      'plugset_left_behind_workspaces',
      'Workspaces that have moved while what plugset installed in their former place still lies there, by the reason of their LeftBehind condition; reasons that none has are left out.',
      { reason: { late: Object.keys(REASONS) } },
      (gauge) => {
        for (const { leftBehind } of this.#facts.values())
          if (leftBehind !== undefined) gauge.inc({ reason: leftBehind });
      },
      this.#isKnown,
    );
  }

  #registerPerWorkspace(): void {
    const make = this.#make;
    const workspace = { namespace: { named: 'each workspace' }, name: { named: 'each workspace' } };
    make.readGauge(
      'plugset_workspace_ready',
      '1 where the workspace is Ready, 0 where it is not; left out where that is unknown, and for suspended and external ones.',
      workspace,
      (gauge) => {
        for (const [key, { ready }] of this.#facts) {
          if (ready !== 'Unknown' && ready !== 'Idle') gauge.set(splitWorkspaceKey(key), ready === 'True' ? 1 : 0);
        }
      },
      this.#isKnown,
    );
    make.readGauge(
      'plugset_workspace_info',
      'Always 1, once for every workspace; how it is is in the labels.',
      { ...workspace, ready: { late: READY }, reason: { late: Object.keys(REASONS) } },
      (gauge) => {
        for (const [key, { ready, reason }] of this.#facts) gauge.set({ ...splitWorkspaceKey(key), ready, reason }, 1);
      },
      this.#isKnown,
    );
    make.readGauge(
      'plugset_workspace_plugins',
      'Plugins of the workspace by state; states that none is in are left out.',
      { ...workspace, state: { late: PLUGIN_STATES } },
      (gauge) => {
        for (const [key, { plugins }] of this.#facts) {
          for (const [state, count] of plugins) gauge.set({ ...splitWorkspaceKey(key), state }, count);
        }
      },
      this.#isKnown,
    );
  }
}

function factsOf(status: WorkspaceStatus): Facts {
  const condition = findCondition(status.conditions, 'Ready');
  const plugins = new Map<PluginState, number>();
  for (const { state } of status.plugins) plugins.set(state, (plugins.get(state) ?? 0) + 1);
  const reason = condition?.reason ?? 'Progressing';
  const reasonOf = (type: ConditionType): Reason | undefined => {
    const found = findCondition(status.conditions, type);
    return found?.status === 'True' ? found.reason : undefined;
  };
  return {
    ready: readyOf(reason, condition?.status ?? 'Unknown', status.held?.reason),
    reason,
    isDrifted: reasonOf('Drifted') !== undefined,
    stalled: reasonOf('Stalled'),
    held: status.held?.reason,
    unactivated: reasonOf('ActivationPending'),
    leftBehind: reasonOf('LeftBehind'),
    plugins,
  };
}

function readyOf(reason: Reason, status: Condition['status'], held: HoldReason | undefined): Facts['ready'] {
  if (isIdle(reason)) return 'Idle';
  return reason === held ? 'Held' : status;
}
