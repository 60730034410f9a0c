import type { Condition } from './condition.ts';
import type { Digest } from './digest.ts';
import type { PluginName } from './name.ts';
import type { Reason } from './reason.ts';

/**
 * State of one plugin:
 * `Installed` as declared · `Pending` declared, not there yet · `Drifted` there, not as declared, and not corrected
 * (policy) · `Failed` the last attempt failed · `Removing` not declared, going · `Held` not declared, policy keeps it ·
 * `Unmanaged` not ours · `Unknown` could not look.
 */
export type PluginState =
  | 'Installed'
  | 'Pending'
  | 'Drifted'
  | 'Failed'
  | 'Removing'
  | 'Held'
  | 'Unmanaged'
  | 'Unknown';

export interface PluginStatus {
  readonly name: PluginName;
  readonly state: PluginState;
  readonly managed: boolean;
  readonly source?: string | undefined;
  /** While nobody can look, like `version`, the last one that a look showed: see `seenAt`. */
  readonly revision?: string | undefined;
  /** Tree that the last look found whole on the target. Never what we merely sent. */
  readonly digest?: Digest | undefined;
  readonly version?: string | undefined;
  readonly reason: Reason;
  readonly message: string;
  /** Only when true: trying again cannot help, a person has to change something. */
  readonly stalled?: true | undefined;
  /** Only while nobody can look: ISO time at which `revision` and `version` were still seen. */
  readonly seenAt?: string | undefined;
  /** ISO time since when `state` and `reason` are what they are. */
  readonly since: string;
}

export interface HistoryEntry {
  readonly planId: string;
  readonly outcome: 'Succeeded' | 'Failed' | 'Partial' | 'Unknown' | 'Voided';
  /** `installed superpowers v4.1.0 (0123456789ab), removed old v1 (…)`; no times, no counts that move. */
  readonly summary: string;
  readonly firstAt: string;
  readonly lastAt: string;
  readonly times: number;
}

/** Why planned changes are not carried out now. */
export type HoldReason = Extract<Reason, 'ObserveOnly' | 'AwaitingApproval' | 'Paused' | 'PruneHeld'>;

/** Changes that are not carried out, and what lets them go. */
export interface Hold {
  readonly reason: HoldReason;
  readonly message: string;
  /** Which guard holds, where one does: told for as long as it holds. */
  readonly why?: string | undefined;
  /** In words, in the order of the plan. */
  readonly changes: readonly string[];
  /** What follows them for the runtime, where there is one that could be restarted. */
  readonly restart?: RestartForecast | undefined;
}

/** Whether a restart follows a change: who agrees to the change agrees to that as well. */
export type RestartForecast =
  | { readonly follows: true }
  | {
      readonly follows: false;
      readonly reason: Extract<PendingActivation['reason'], 'RestartNever' | 'NotDurable'>;
      readonly message: string;
    };

/** The files are in place, and the runtime has not taken them up. */
export interface PendingActivation {
  readonly reason: Extract<
    Reason,
    'RestartPending' | 'RestartDeferred' | 'RestartFailed' | 'RestartNever' | 'NotDurable'
  >;
  readonly message: string;
}

/** A place where the workspace had its plugins before, and where what plugset installed still lies. */
export interface LeftBehind {
  /** What the place is called. */
  readonly place: string;
  readonly reason: Reason;
  readonly message: string;
}

export interface WorkspaceStatus {
  /** Last generation that a pass carried to Ready or Stalled; -1 before the first. */
  readonly observedGeneration: number;
  readonly conditions: readonly Condition[];
  /** `5/6`: declared plugins that are installed / declared; `?/6` while nobody can look. */
  readonly summary: string;
  /** What the target is called, for tables. */
  readonly target: string;
  readonly plugins: readonly PluginStatus[];
  /**
   * Tree each plugin had when a look last found it as declared, until it is gone. Tells a repair from a new declaration, and
   * what was declared from what the target alone says was: what is on the target is never concluded from it.
   */
  readonly converged: Readonly<Record<string, Digest>>;
  readonly planId?: string | undefined;
  /** Changes of that plan which are not carried out, and what would let them go; the changes in words. */
  readonly held?: Hold | undefined;
  /** ISO time since when a guard holds removals back; until they are approved, or no longer planned. */
  readonly pruneHeldSince?: string | undefined;
  /** Mark of the place that is known to be remembered: a hint which saves a question to the store in every pass. */
  readonly place?: string | undefined;
  /** Never empty. */
  readonly leftBehind?: readonly LeftBehind[] | undefined;
  /** The five newest, equal neighbours folded into one with a count. */
  readonly history: readonly HistoryEntry[];
  readonly lastHandledReconcileAt?: string | undefined;
  /** Text of the newest approval that was carried out or has become void. */
  readonly lastHandledApproval?: string | undefined;
  /** Text of the newest takeover that was carried out, or found nothing to take over. */
  readonly lastHandledTakeover?: string | undefined;
  /** Changes carried out since the workspace is known: repairs of drift, and follow-ups of declarations. */
  readonly corrective: number;
  readonly intentional: number;
}

export const EMPTY_STATUS: WorkspaceStatus = {
  observedGeneration: -1,
  conditions: [],
  summary: '0/0',
  target: '',
  plugins: [],
  converged: {},
  history: [],
  corrective: 0,
  intentional: 0,
};
