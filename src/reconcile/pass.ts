import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import type { Digest } from '../domain/digest.ts';
import { aborted, classifyError, ReconcileError } from '../domain/errors.ts';
import type { Observation, ObservedPlugin } from '../domain/observation.ts';
import { gatePlan, type Gated, type RemovalCaps } from '../domain/gate.ts';
import { isManaged, planChanges } from '../domain/plan.ts';
import type { HistoryEntry, PendingActivation, WorkspaceStatus } from '../domain/status.ts';
import {
  APPROVED_PLAN_ANNOTATION,
  REQUESTED_AT_ANNOTATION,
  TAKEOVER_ANNOTATION,
  type Policy,
  type Workspace,
} from '../domain/workspace.ts';
import type { Logger } from '../ports/logger.ts';
import type { Loaded } from '../ports/workspace-store.ts';
import type { DesiredSet } from './desired.ts';

/** What one pass over one workspace knows so far; becomes the status whatever happens next. */
export interface Pass {
  readonly key: WorkspaceKey;
  readonly workspace: Workspace;
  /** The status as the store had it. */
  readonly previous: WorkspaceStatus;
  /** The store counts the declaration as open until a status is written, be it the same as before. */
  readonly awaitsStatus: boolean;
  /** Token of a requested pass that the status has not echoed yet. */
  readonly request: string | undefined;
  /** Text of an approval that was not used yet. */
  readonly approval: string | undefined;
  /** Text of a takeover that was not carried out yet. */
  readonly takeover: string | undefined;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** What the target is called, once it was found. */
  target: string;
  /** Which one it is, once it was found. */
  identity: string;
  desired: DesiredSet;
  observation: Observation | undefined;
  planned: Gated | undefined;
  /** What the fleet allows now; asked for once there is something to carry out. */
  fleet: FleetSay;
  /** The approval, once it was carried out or is void. */
  handledApproval: string | undefined;
  /** The takeover, once it was carried out or there was nothing to take over. */
  handledTakeover: string | undefined;
  history: Omit<HistoryEntry, 'firstAt' | 'lastAt' | 'times'> | undefined;
  /** What the runtime has not taken up (`null`: nothing), once that was looked at. */
  activation: PendingActivation | null | undefined;
  corrective: number;
  intentional: number;
}

/** What holds for the whole fleet at the time of a pass. */
export interface FleetSay {
  readonly paused: string | undefined;
  readonly mayBeEmptied: boolean;
  readonly caps: RemovalCaps;
}

export function beginPass(loaded: Extract<Loaded, { kind: 'found' }>, signal: AbortSignal, logger: Logger): Pass {
  const { workspace, status: previous, awaitsStatus = false } = loaded;
  return {
    key: workspace.key,
    workspace,
    previous,
    awaitsStatus,
    request: openRequest(workspace.annotations[REQUESTED_AT_ANNOTATION], previous.lastHandledReconcileAt),
    approval: openRequest(workspace.annotations[APPROVED_PLAN_ANNOTATION], previous.lastHandledApproval),
    takeover: openRequest(workspace.annotations[TAKEOVER_ANNOTATION], previous.lastHandledTakeover),
    signal,
    logger: logger.with({ workspace: workspace.key, generation: workspace.generation }),
    target: '',
    identity: '',
    desired: { plugins: [], artifacts: new Map() },
    observation: undefined,
    planned: undefined,
    fleet: { paused: undefined, mayBeEmptied: false, caps: { plugins: 0, share: 0 } },
    handledApproval: undefined,
    handledTakeover: undefined,
    history: undefined,
    activation: undefined,
    corrective: 0,
    intentional: 0,
  };
}

/** The text of an annotation that asks for something, unless the status has echoed it. */
export function openRequest(asked: string | undefined, handled: string | undefined): string | undefined {
  return asked === handled ? undefined : asked;
}

/**
 * What `thrown` came to. A pass that was ended has nothing to say and writes nothing (shutdown, lost lease), unless its
 * own deadline ended it: that is news for people.
 */
export function passError(pass: Pass, thrown: unknown): ReconcileError {
  if (!pass.signal.aborted) return classifyError(thrown);
  const reason: unknown = pass.signal.reason;
  return reason instanceof ReconcileError ? reason : aborted('the pass was ended', thrown);
}

/** Plans from what was found, and keeps both: the newest look and its plan are what the status tells. */
export function planPass(pass: Pass, observation: Observation): Gated {
  const { deleting, runtime } = pass.workspace;
  pass.observation = deleting ? ownedOnly(observation, pass.key) : observation;
  const policy = effectivePolicy(pass.workspace);
  const planned = planChanges({
    workspace: pass.key,
    target: pass.identity,
    runtime,
    desired: pass.desired.plugins,
    observation: pass.observation,
    policy,
    lastConverged: new Map(Object.entries(pass.previous.converged) as [PluginName, Digest][]),
  });
  pass.planned = gatePlan({
    planned,
    observation: pass.observation,
    policy,
    deleting,
    workspace: pass.key,
    approved: approvedPlan(pass.approval),
    ...pass.fleet,
  });
  return pass.planned;
}

/** What stands before the `@`, which tells two equal wishes apart. */
function subjectOf(request: string | undefined): string | undefined {
  return request?.split('@', 1)[0];
}

export function approvedPlan(approval: string | undefined): string | undefined {
  return subjectOf(approval);
}

/** The authority that a person has decided to take the target over from, where that is whom the target names. */
export function takenFrom({ takeover }: Pass, { fence }: Observation): string | undefined {
  return takeover !== undefined && fence?.authority === subjectOf(takeover) ? fence?.authority : undefined;
}

/** Deleting with `policy.deletion: Remove` takes away what we installed, whatever the prune policy of its life was. */
function effectivePolicy(workspace: Workspace): Policy {
  return workspace.deleting ? { ...workspace.policy, prune: 'Managed' } : workspace.policy;
}

/** On a target that two workspaces share by mistake, deleting one must not take the other's plugins away. */
function ownedOnly(observation: Observation, key: WorkspaceKey): Observation {
  // A garbled receipt names nobody: it is taken for ours only where no other workspace has one.
  const isShared = observation.plugins.some(({ receipt }) => receipt !== undefined && receipt.workspace !== key);
  const isOurs = (plugin: ObservedPlugin): boolean =>
    plugin.receipt === undefined ? isManaged(plugin) && !isShared : plugin.receipt.workspace === key;
  return { ...observation, plugins: observation.plugins.filter(isOurs) };
}
