import type { Registry } from 'prom-client';

import { findCondition } from '../../domain/condition.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import type { PluginState, WorkspaceStatus } from '../../domain/status.ts';
import { Instruments } from './instruments.ts';

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

/** What of a status ends up in gauges; the status itself is not kept alive. */
interface Facts {
  readonly ready: 'True' | 'False' | 'Unknown';
  readonly reason: string | undefined;
  readonly isDrifted: boolean;
  readonly plugins: ReadonlyMap<PluginState, number>;
}

export interface WorkspaceGaugesOptions {
  /** Also series per workspace. Their number grows with the fleet, so only where that is wanted. */
  readonly perWorkspace: boolean;
}

/** Gauges over the workspaces, computed at each scrape from the newest status of each: a workspace that is gone leaves none. */
export class WorkspaceGauges {
  readonly #facts = new Map<WorkspaceKey, Facts>();

  constructor(registry: Registry, options: WorkspaceGaugesOptions) {
    const make = new Instruments(registry);
    this.#registerTotals(make);
    if (options.perWorkspace) this.#registerPerWorkspace(make);
  }

  set(key: WorkspaceKey, status: WorkspaceStatus | undefined): void {
    if (status === undefined) this.#facts.delete(key);
    else this.#facts.set(key, factsOf(status));
  }

  clear(): void {
    this.#facts.clear();
  }

  #registerTotals(make: Instruments): void {
    const ready = { ready: ['True', 'False', 'Unknown'] };
    make.readGauge('plugset_workspaces', 'Workspaces by the status of their Ready condition.', ready, (gauge) => {
      for (const facts of this.#facts.values()) gauge.inc({ ready: facts.ready });
    });
    make.readGauge('plugset_plugins', 'Plugins of all workspaces by state.', { state: PLUGIN_STATES }, (gauge) => {
      for (const { plugins } of this.#facts.values()) {
        for (const [state, count] of plugins) gauge.inc({ state }, count);
      }
    });
    make.readGauge(
      'plugset_drifted_workspaces',
      'Workspaces whose target differs from what was converged.',
      {},
      (gauge) => {
        gauge.set([...this.#facts.values()].filter((facts) => facts.isDrifted).length);
      },
    );
    const help = 'Workspaces by the reason of their Ready condition; reasons without one are left out.';
    make.readGauge('plugset_reason_workspaces', help, { reason: [] }, (gauge) => {
      for (const { reason } of this.#facts.values()) if (reason !== undefined) gauge.inc({ reason });
    });
  }

  #registerPerWorkspace(make: Instruments): void {
    const labels = { namespace: [], name: [] };
    make.readGauge('plugset_workspace_ready', '1 where the workspace is Ready, else 0.', labels, (gauge) => {
      for (const [key, facts] of this.#facts) gauge.set(splitWorkspaceKey(key), facts.ready === 'True' ? 1 : 0);
    });
    const perState = { ...labels, state: [] };
    make.readGauge('plugset_workspace_plugins', 'Plugins of the workspace by state.', perState, (gauge) => {
      for (const [key, { plugins }] of this.#facts) {
        for (const [state, count] of plugins) gauge.set({ ...splitWorkspaceKey(key), state }, count);
      }
    });
  }
}

function factsOf(status: WorkspaceStatus): Facts {
  const ready = findCondition(status.conditions, 'Ready');
  const plugins = new Map<PluginState, number>();
  for (const { state } of status.plugins) plugins.set(state, (plugins.get(state) ?? 0) + 1);
  return {
    ready: ready?.status ?? 'Unknown',
    reason: ready?.reason,
    isDrifted: findCondition(status.conditions, 'Drifted')?.status === 'True',
    plugins,
  };
}
