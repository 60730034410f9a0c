import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import type { Digest } from '../domain/digest.ts';
import { aborted, classifyError, ReconcileError, waiting } from '../domain/errors.ts';
import type { Observation, ObservedPlugin } from '../domain/observation.ts';
import { gatePlan, holdsStrangersAlone, type FleetSay, type Gated } from '../domain/gate.ts';
import type { Remembered } from '../domain/place.ts';
import { isManaged, planChanges, type Verdict } from '../domain/plan.ts';
import type { Hold, LeftBehind, PendingActivation, WorkspaceStatus } from '../domain/status.ts';
import {
  APPROVED_PLAN_ANNOTATION,
  mayApproveItself,
  REQUESTED_AT_ANNOTATION,
  type Policy,
  type Workspace,
} from '../domain/workspace.ts';
import type { Logger } from '../ports/logger.ts';
import type { Loaded } from '../ports/workspace-store.ts';
import { approvedPlans, openRequest, type Decisions } from './decisions.ts';
import type { DesiredSet } from './desired.ts';

/** What one pass over one workspace knows so far; becomes the status whatever happens next. */
export interface Pass extends Decisions {
  readonly key: WorkspaceKey;
  readonly workspace: Workspace;
  /** The store counts the declaration as open until a status is written, be it the same as before. */
  readonly awaitsStatus: boolean;
  /** Token of a requested pass that the status has not echoed yet. */
  readonly request: string | undefined;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  /** What the target is called, once it was found. */
  target: string;
  /** Which one it is, once it was found. */
  identity: string;
  /** User on the target who writes, where that is not the owner of the config directory. */
  writerUid: number | undefined;
  desired: DesiredSet;
  observation: Observation | undefined;
  /** Workspaces that receipts on the target name, and that nobody declares there any more. */
  formerOwners: ReadonlySet<string>;
  planned: Gated | undefined;
  /** What the fleet allows now; asked for once there is something to carry out. */
  fleet: FleetSay;
  /** What the runtime has not taken up (`null`: nothing), once that was looked at. */
  activation: PendingActivation | null | undefined;
  /** The look of this pass has found, before anything was changed, everything that was delivered before. */
  wasIntact: boolean;
  /** A restart that was made, or made out. */
  restart: Pass['history'];
  corrective: number;
  intentional: number;
  /** It is about a place that the workspace has left: only what it installed there is seen, and all of that goes. */
  readonly isLeaving: boolean;
  /** Of a place that is left: everything that goes there stands in the declared one. */
  readonly standsElsewhere: boolean;
  /** Where its plugins were put, as far as that was read; `undefined`: nothing says that it matters. */
  places: Remembered | undefined;
  /** Mark of the declared place, once that is remembered. */
  place: string | undefined;
  /** Former places that are not clean yet; `undefined` where that was not asked. */
  leftBehind: readonly LeftBehind[] | undefined;
  /** A plan for a former place that waits for somebody; told once nothing waits in the place that is declared. */
  heldElsewhere: { readonly planId: string; readonly hold: Hold } | undefined;
  /** What was done in former places. */
  readonly elsewhere: NonNullable<Pass['history']>[];
}

export function beginPass(loaded: Extract<Loaded, { kind: 'found' }>, signal: AbortSignal, logger: Logger): Pass {
  const { workspace, status: previous, awaitsStatus = false } = loaded;
  return {
    key: workspace.key,
    workspace,
    previous,
    awaitsStatus,
    request: openRequest(workspace.annotations[REQUESTED_AT_ANNOTATION], previous.lastHandledReconcileAt),
    approval: mayApproveItself(workspace)
      ? openRequest(workspace.annotations[APPROVED_PLAN_ANNOTATION], previous.lastHandledApproval)
      : undefined,
    grants: {},
    spent: [],
    signal,
    logger: logger.with({ workspace: workspace.key, generation: workspace.generation }),
    target: '',
    identity: '',
    writerUid: undefined,
    desired: { plugins: [], artifacts: new Map() },
    observation: undefined,
    formerOwners: new Set(),
    planned: undefined,
    fleet: { paused: undefined, caps: { plugins: 0, share: 0 }, removedLately: [], refusal: undefined },
    handledApproval: undefined,
    handledTakeover: undefined,
    history: undefined,
    activation: undefined,
    wasIntact: false,
    restart: undefined,
    corrective: 0,
    intentional: 0,
    isLeaving: false,
    standsElsewhere: false,
    places: undefined,
    place: undefined,
    leftBehind: undefined,
    owesFormer: false,
    heldElsewhere: undefined,
    elsewhere: [],
  };
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
  pass.observation = deleting || pass.isLeaving ? ownedOnly(observation, pass.key) : observation;
  const policy = effectivePolicy(pass);
  const planned = planChanges({
    workspace: pass.key,
    target: pass.identity,
    runtime,
    desired: pass.desired.plugins,
    observation: pass.observation,
    policy,
    lastConverged: new Map(Object.entries(pass.previous.converged) as [PluginName, Digest][]),
    formerOwners: pass.formerOwners,
    writerUid: pass.writerUid,
  });
  pass.planned = gatePlan({
    planned,
    observation: pass.observation,
    policy,
    wholesale: deleting || pass.standsElsewhere,
    known: knownPlugins(pass),
    workspace: pass.key,
    approved: approvedPlans(pass),
    wasHeld: wasHeld(pass.previous),
    ...pass.fleet,
  });
  return pass.planned;
}

/** What is declared, or was seen as declared. */
export function knownPlugins({ desired, previous }: Pass): ReadonlySet<string> {
  return new Set([...desired.plugins.map(({ name }) => name), ...Object.keys(previous.converged)]);
}

function wasHeld({ held, pruneHeldSince }: WorkspaceStatus): string | undefined {
  if (pruneHeldSince === undefined) return undefined;
  // Something else may have held everything since.
  return held?.why ?? 'more than the guards allow was to be removed within an hour';
}

/** Whether anything at all may be changed on the target. */
export function mayWrite({ workspace, fleet }: Pass): boolean {
  return workspace.policy.mode !== 'Observe' && fleet.paused === undefined;
}

const PAUSE_RECHECK_MS = 60_000;

/** For a target that is to be left for good while a pause keeps an interrupted change on it from being finished. */
export function unfinished({ fleet }: Pass): ReconcileError {
  return waiting('Paused', `a change that was interrupted is to be finished: ${fleet.paused ?? ''}`, PAUSE_RECHECK_MS);
}

/** Nothing is left to do, and nothing failed, waits, or is left as somebody changed it: all that is declared is there. */
export function isConverged({ planned }: Pass): boolean {
  const isFine = ({ error, state }: Verdict): boolean => error === undefined && state !== 'Drifted';
  if (planned === undefined || !planned.verdicts.every(isFine)) return false;
  return planned.plan.entries.length === 0 || holdsStrangersAlone(planned);
}

/** Every tree that a look has found as declared before is there as it was then, whatever else is to be done now. */
export function isIntact({ previous }: Pick<Pass, 'previous'>, { plugins }: Observation): boolean {
  const whole = new Map(
    plugins.flatMap((plugin) =>
      plugin.present && plugin.differing.length === 0 ? [[plugin.name as string, plugin.listDigest] as const] : [],
    ),
  );
  return Object.entries(previous.converged).every(([name, digest]) => whole.get(name) === digest);
}

/** The failure that decides when the workspace is tried again: the one that may pass soonest. */
export function soonestFailure(verdicts: readonly Verdict[]): ReconcileError | undefined {
  const failures = verdicts.flatMap((verdict) => verdict.error ?? []);
  return failures.find((error) => error.class !== 'terminal') ?? failures[0];
}

/** Deleting with `policy.deletion: Remove`, and leaving a place, takes away what we installed, whatever the prune policy of its life was. */
function effectivePolicy({ workspace, isLeaving }: Pass): Policy {
  return workspace.deleting || isLeaving ? { ...workspace.policy, prune: 'Managed' } : workspace.policy;
}

/** On a target that two workspaces share by mistake, deleting one must not take the other's plugins away. */
export function ownedOnly(observation: Observation, key: WorkspaceKey): Observation {
  // A garbled receipt names nobody: it is taken for ours only where no other workspace has one.
  const isShared = observation.plugins.some(({ receipt }) => receipt !== undefined && receipt.workspace !== key);
  const isOurs = (plugin: ObservedPlugin): boolean =>
    plugin.receipt === undefined ? isManaged(plugin) && !isShared : plugin.receipt.workspace === key;
  return { ...observation, plugins: observation.plugins.filter(isOurs) };
}
