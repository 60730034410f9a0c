import { canonicalJson, sha256, type Digest } from '../domain/digest.ts';
import { aborted, classifyError, terminal, transient, waiting, type ReconcileError } from '../domain/errors.ts';
import { findCondition, type Condition } from '../domain/condition.ts';
import type { Fence } from '../domain/fence.ts';
import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import type { Observation, ObservedPlugin } from '../domain/observation.ts';
import { isManaged, planChanges, type DesiredPlugin, type Plan, type Planned, type Verdict } from '../domain/plan.ts';
import { findProfile, type RuntimeProfile } from '../domain/profile.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../domain/status.ts';
import { compileTransaction } from '../domain/transaction.ts';
import { REQUESTED_AT_ANNOTATION, targetKind, type Policy, type Workspace } from '../domain/workspace.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics, Phase } from '../ports/metrics.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { ConvergeResult, HostPlace, PluginHost } from '../ports/plugin-host.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { resolveDesired, type DesiredPorts, type DesiredSet } from './desired.ts';
import { Memory } from './memory.ts';
import { checkOwnership } from './ownership.ts';
import { summarize, type PassFacts } from './summarize.ts';
import type { TargetIndex } from './target-index.ts';

export interface ReconcilerOptions extends DesiredPorts {
  readonly store: WorkspaceStore;
  readonly providers: readonly TargetProvider[];
  readonly host: PluginHost;
  readonly profiles: readonly RuntimeProfile[];
  readonly index: TargetIndex;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Between two passes over a workspace that is as declared, milliseconds; ±10 % jitter. */
  readonly probeIntervalMs: number;
  /** Between two deep looks at a workspace whose probe does not move, milliseconds; ±10 % jitter. */
  readonly deepIntervalMs: number;
  /** Wakes workspaces that waited for this one's claim on a target to go. */
  readonly onReleased: (keys: readonly WorkspaceKey[]) => void;
}

/** What `plugset plan` shows of one workspace. */
export interface Preview {
  readonly workspace: Workspace;
  readonly target: string;
  readonly planned: Planned;
  readonly observation: Observation;
}

/** A newer leader wrote to the target; by then this process has learned from the store whether it still leads. */
const STALE_FENCE_RECHECK_MS = 30_000;

/** What is known in the middle of a pass; becomes the status whatever happens next. */
interface Pass {
  readonly key: WorkspaceKey;
  readonly workspace: Workspace;
  readonly previous: WorkspaceStatus;
  /** Token of a requested pass that the status has not echoed yet. */
  readonly request: string | undefined;
  readonly signal: AbortSignal;
  readonly logger: Logger;
  target: string;
  desired: DesiredSet;
  observation: Observation | undefined;
  planned: Planned | undefined;
  history: PassFacts['history'];
  corrective: number;
  intentional: number;
}

/**
 * One pass over one workspace, the way of one change (design section 3): load, resolve, observe, plan, converge, report.
 * Reads everything anew each time; whatever woke it is unknown here.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #memory = new Memory();

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /**
   * Brings one workspace to what is declared for it, or says in its status why not.
   * Throws the {@link ReconcileError} that decides when it is tried again. `fence` is the turn it acts under.
   */
  async reconcile(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<ReconcileResult> {
    const loaded = await this.#phase('load', key, () => this.#options.store.get(key, signal));
    if (loaded.kind === 'absent') return this.#forget(key);
    if (loaded.kind === 'malformed') return this.#reportMalformed(loaded, fence, signal);
    const pass = this.#begin(loaded.workspace, loaded.status, signal);
    if (loaded.workspace.deleting) return this.#delete(pass, fence);
    const idle = idleReason(loaded.workspace);
    if (idle !== undefined) {
      await this.#report(pass, fence, { idle });
      return {};
    }
    return this.#reported(pass, fence, () => this.#converge(pass, fence));
  }

  /** Looks and plans like a pass, and changes nothing anywhere. For `plugset plan`. */
  async preview(key: WorkspaceKey, authority: string | undefined, signal: AbortSignal): Promise<Preview | Loaded> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'found' || idleReason(loaded.workspace) !== undefined) return loaded;
    const pass = this.#begin(loaded.workspace, loaded.status, signal);
    const place = await this.#locate(pass);
    pass.desired = await resolveDesired(pass.workspace, this.#options, false, signal);
    const observation = await this.#look(pass, place);
    if (authority !== undefined) this.#checkOwnership(pass, authority, observation);
    const planned = this.#plan(pass, observation);
    return { workspace: pass.workspace, target: pass.target, planned, observation };
  }

  /** Learns where a workspace points before any pass acts, so that two claims on one target are seen in time. */
  async introduce(key: WorkspaceKey, signal: AbortSignal): Promise<void> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind === 'found') this.#declareTarget(loaded.workspace);
  }

  #begin(workspace: Workspace, previous: WorkspaceStatus, signal: AbortSignal): Pass {
    this.#declareTarget(workspace);
    const asked = workspace.annotations[REQUESTED_AT_ANNOTATION];
    return {
      key: workspace.key,
      workspace,
      previous,
      request: asked !== undefined && asked !== previous.lastHandledReconcileAt ? asked : undefined,
      signal,
      logger: this.#options.logger.with({ workspace: workspace.key, generation: workspace.generation }),
      target: '',
      desired: { plugins: [], artifacts: new Map() },
      observation: undefined,
      planned: undefined,
      history: undefined,
      corrective: 0,
      intentional: 0,
    };
  }

  #declareTarget(workspace: Workspace): void {
    const provider = this.#options.providers.find((one) => one.kind === targetKind(workspace.target));
    if (provider === undefined) return;
    const before = this.#options.index.rivalsOf(workspace.key);
    this.#options.index.declare(workspace.key, provider.addresses(workspace), provider.lane(workspace));
    const after = new Set(this.#options.index.rivalsOf(workspace.key));
    const released = before.filter((rival) => !after.has(rival));
    if (released.length > 0) this.#options.onReleased(released);
  }

  // --- the way of one change -----------------------------------------------------------------------------------------

  async #converge(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const place = await this.#phase('locate', pass.key, () => this.#locate(pass));
    pass.desired = await this.#phase('resolve', pass.key, () =>
      resolveDesired(pass.workspace, this.#options, pass.request !== undefined, pass.signal),
    );
    const token = await this.#probe(pass, place);
    if (token !== undefined && this.#isUnmoved(pass, place, token)) return this.#again(pass);
    this.#memory.dropLook(pass.key);
    const observation = await this.#phase('observe', pass.key, () => this.#look(pass, place));
    this.#checkOwnership(pass, fence.authority, observation);
    const planned = await this.#phase('plan', pass.key, async () => this.#plan(pass, observation));
    if (planned.plan.entries.length > 0 || observation.journalPending) {
      await this.#phase('converge', pass.key, () => this.#apply(pass, place, planned.plan, fence));
    } else if (token !== undefined) {
      this.#rememberLook(pass, place, token, planned, observation);
    }
    return this.#again(pass);
  }

  async #locate(pass: Pass): Promise<HostPlace> {
    const { workspace } = pass;
    const kind = targetKind(workspace.target);
    const provider = this.#options.providers.find((one) => one.kind === kind);
    if (provider === undefined) throw terminal('InvalidSpec', `this plugset has no target of kind ${kind}`);
    const profile = findProfile(this.#options.profiles, workspace.runtime);
    if (profile === undefined) {
      const known = this.#options.profiles.map((one) => one.runtime).join(', ');
      throw terminal('UnknownRuntime', `runtime ${workspace.runtime} has no profile; known: ${known}`);
    }
    const configDir = profile.configDir[kind];
    if (configDir === undefined) {
      throw terminal('InvalidSpec', `the profile of runtime ${workspace.runtime} has no config directory for ${kind} targets`);
    }
    const target = await provider.locate(workspace, pass.signal);
    pass.target = target.description;
    this.#options.index.identify(pass.key, target.identity);
    return { target, configDir, profile };
  }

  async #probe(pass: Pass, place: HostPlace): Promise<string | undefined> {
    const probed = await place.target.probe(place.configDir, pass.signal);
    pass.signal.throwIfAborted();
    return probed.kind === 'token' ? probed.token : undefined;
  }

  /** The probe did not move, nothing else is wanted than last time, and the deep clock has time: the last look stands. */
  #isUnmoved(pass: Pass, place: HostPlace, token: string): boolean {
    const last = this.#memory.lastLook(pass.key);
    const unmoved =
      last !== undefined &&
      pass.request === undefined &&
      last.identity === place.target.identity &&
      last.token === token &&
      last.desiredKey === desiredKey(pass) &&
      this.#options.clock.monotonic() < last.deepDueAtMs;
    if (!unmoved) return false;
    this.#options.metrics.looked('probe', 'unmoved');
    pass.observation = last.observation;
    pass.planned = this.#plan(pass, last.observation);
    return true;
  }

  async #look(pass: Pass, place: HostPlace): Promise<Observation> {
    const candidates = new Map(
      pass.desired.plugins.flatMap((plugin) => (plugin.kind === 'resolved' ? [[plugin.name, plugin.lists] as const] : [])),
    );
    try {
      const observation = await this.#options.host.observe(place, candidates, pass.signal);
      this.#options.metrics.looked('deep', 'looked');
      return observation;
    } catch (error) {
      this.#options.metrics.looked('deep', 'unknown');
      throw error;
    }
  }

  #checkOwnership(pass: Pass, authority: string, observation: Observation): void {
    checkOwnership(pass.key, this.#options.index.rivalsOf(pass.key), authority, pass.target, observation);
  }

  #plan(pass: Pass, observation: Observation): Planned {
    const { deleting, runtime } = pass.workspace;
    pass.observation = deleting ? ownedOnly(observation, pass.key) : observation;
    pass.planned = planChanges({
      workspace: pass.key,
      runtime,
      desired: pass.desired.plugins,
      observation: pass.observation,
      policy: effectivePolicy(pass.workspace),
      lastConverged: new Map(Object.entries(pass.previous.converged) as [PluginName, Digest][]),
    });
    return pass.planned;
  }

  /** One transaction on the target; what the same run finds afterwards is planned again and has to ask for nothing. */
  async #apply(pass: Pass, place: HostPlace, plan: Plan, fence: Fence): Promise<void> {
    const before = pass.observation;
    if (before === undefined) throw new Error('a plan without an observation');
    pass.logger.info('converging', { plan: plan.id, target: pass.target, changes: plan.entries.map(describeEntry) });
    pass.history = { planId: plan.id, outcome: 'Unknown', summary: plan.entries.map(describeEntry).join(', ') };
    const transaction = compileTransaction(plan, pass.desired.plugins, before, {
      workspace: pass.key,
      authority: fence.authority,
    });
    const { artifacts } = pass.desired;
    const owner = place.profile.owner === 'configDir' ? before.owner : place.profile.owner;
    try {
      const result = await this.#options.host.converge(place, { transaction, fence, owner, artifacts }, pass.signal);
      const after = this.#plan(pass, result.observation);
      pass.planned = { plan: after.plan, verdicts: withFailures(after, result) };
      this.#count(pass, plan, result);
    } catch (thrown) {
      const error = classifyError(thrown);
      pass.planned = withOneFailure(plan, pass.planned?.verdicts ?? [], error);
      if (error.class !== 'unknown') pass.history = { ...pass.history, outcome: 'Failed' };
      throw error;
    }
  }

  #count(pass: Pass, plan: Plan, result: ConvergeResult): void {
    const done = plan.entries.filter((entry) => !result.failed.has(entry.plugin));
    for (const entry of done) this.#options.metrics.changed(entry.action, entry.cause, 1);
    pass.corrective += done.filter((entry) => entry.cause === 'corrective').length;
    pass.intentional += done.filter((entry) => entry.cause === 'intentional').length;
    const outcome = result.failed.size === 0 ? 'Succeeded' : done.length > 0 ? 'Partial' : 'Failed';
    pass.history = { planId: plan.id, outcome, summary: plan.entries.map(describeEntry).join(', ') };
    if (result.kept.length > 0) pass.logger.warn('files that were on no list were moved aside', { kept: result.kept });
  }

  #rememberLook(pass: Pass, place: HostPlace, token: string, planned: Planned, observation: Observation): void {
    const { clock, deepIntervalMs } = this.#options;
    this.#memory.rememberLook(pass.key, {
      identity: place.target.identity,
      token,
      desiredKey: desiredKey(pass),
      observation,
      verdicts: planned.verdicts,
      deepDueAtMs: clock.monotonic() + deepIntervalMs * (0.9 + clock.random() * 0.2),
    });
  }

  /** One bad plugin leaves the workspace on its probe clock, so that the others go on being looked after. */
  #again(pass: Pass): ReconcileResult {
    const requeueAfterMs = this.#options.probeIntervalMs * (0.9 + this.#options.clock.random() * 0.2);
    const failure = worstFailure(pass.planned?.verdicts ?? []);
    return failure === undefined ? { requeueAfterMs } : { requeueAfterMs, failure };
  }

  // --- the end of a workspace ----------------------------------------------------------------------------------------

  /** Takes away what we installed, then forgets. A target that does not exist has nothing left to take away. */
  async #delete(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    if (pass.workspace.policy.deletion === 'Remove' && targetKind(pass.workspace.target) !== 'external') {
      try {
        await this.#reported(pass, fence, () => this.#clean(pass, fence));
      } catch (error) {
        if (!(classifyError(error).reason === 'WorkspaceNotFound')) throw error;
        pass.logger.warn('deleted while its target does not exist; nothing is removed', { target: pass.workspace.target });
      }
    }
    await this.#options.store.finishDeletion(pass.key, fence, pass.signal);
    pass.logger.info('workspace deleted');
    return this.#forget(pass.key);
  }

  async #clean(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const place = await this.#locate(pass);
    const observation = await this.#look(pass, place);
    if (observation.fence !== undefined && observation.fence.authority !== fence.authority) return {};
    const planned = this.#plan(pass, observation);
    if (planned.plan.entries.length === 0 && !observation.journalPending) return {};
    await this.#apply(pass, place, planned.plan, fence);
    const failure = worstFailure(pass.planned?.verdicts ?? []);
    if (failure !== undefined) throw failure;
    return {};
  }

  #forget(key: WorkspaceKey): ReconcileResult {
    const { index, revisions, metrics, onReleased } = this.#options;
    const rivals = index.rivalsOf(key);
    index.forget(key);
    revisions.follow(key, []);
    this.#memory.forget(key);
    metrics.status(key, undefined);
    if (rivals.length > 0) onReleased(rivals);
    return {};
  }

  // --- report --------------------------------------------------------------------------------------------------------

  /** Runs the steps and writes the status whatever became of them; an aborted pass writes nothing. */
  async #reported(pass: Pass, fence: Fence, steps: () => Promise<ReconcileResult>): Promise<ReconcileResult> {
    let failure: ReconcileError | undefined;
    let result: ReconcileResult = {};
    try {
      result = await steps();
    } catch (error) {
      failure = pass.signal.aborted ? aborted('the pass was ended', error) : classifyError(error);
      // Refused by the target while our turn still seems good: the store, which knows, accepts this status or refuses it.
      if (failure.reason === 'StaleFence') failure = waiting('StaleFence', failure.message, STALE_FENCE_RECHECK_MS, error);
      if (failure.class === 'aborted') throw failure;
      if (failure.class === 'unknown') this.#memory.dropLook(pass.key);
    }
    await this.#report(pass, fence, { error: failure });
    if (failure !== undefined) throw failure;
    return result;
  }

  async #report(pass: Pass, fence: Fence, outcome: Pick<PassFacts, 'error' | 'idle'>): Promise<void> {
    const { workspace, observation, planned } = pass;
    const perPlugin = outcome.error !== undefined && failuresOf(planned?.verdicts ?? []).includes(outcome.error);
    const facts: PassFacts = {
      generation: workspace.generation,
      target: pass.target,
      declared: workspace.deleting ? [] : workspace.plugins.map((plugin) => plugin.name),
      error: perPlugin ? undefined : outcome.error,
      idle: outcome.idle,
      found: observation === undefined || planned === undefined ? undefined : { observation, verdicts: planned.verdicts },
      desired: pass.desired.plugins,
      planId: planned?.plan.id,
      history: pass.history,
      corrective: pass.corrective,
      intentional: pass.intentional,
      handledRequest: pass.request,
    };
    const status = summarize(pass.previous, facts, new Date(this.#options.clock.now()).toISOString());
    await this.#writeStatus(pass.key, pass.previous, status, fence, pass.signal);
    const ready = findCondition(status.conditions, 'Ready');
    logTransition(pass.logger, findCondition(pass.previous.conditions, 'Ready'), ready);
    if (ready?.status === 'True' && this.#memory.isFirstConvergence(pass.key, workspace.generation)) {
      this.#options.metrics.converged(Math.max(0, this.#options.clock.now() - workspace.declaredAtMs) / 1000);
    }
  }

  async #reportMalformed(loaded: Extract<Loaded, { kind: 'malformed' }>, fence: Fence, signal: AbortSignal): Promise<ReconcileResult> {
    const error = terminal('InvalidSpec', loaded.problems.join('; '));
    const facts: PassFacts = {
      generation: loaded.generation,
      target: '',
      declared: [],
      error,
      desired: [],
      corrective: 0,
      intentional: 0,
    };
    const status = summarize(loaded.status, facts, new Date(this.#options.clock.now()).toISOString());
    await this.#writeStatus(loaded.key, loaded.status, status, fence, signal);
    throw error;
  }

  async #writeStatus(
    key: WorkspaceKey,
    previous: WorkspaceStatus,
    status: WorkspaceStatus,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<void> {
    this.#options.metrics.status(key, status);
    if (previous !== EMPTY_STATUS && canonicalJson(previous) === canonicalJson(status)) return;
    await this.#phase('report', key, () => this.#options.store.writeStatus({ key, status, fence }, signal));
  }

  async #phase<T>(phase: Phase, key: WorkspaceKey, step: () => Promise<T>): Promise<T> {
    const { clock, logger, metrics } = this.#options;
    logger.debug('phase', { phase, workspace: key });
    const startedMs = clock.monotonic();
    try {
      return await step();
    } finally {
      metrics.phase(phase, (clock.monotonic() - startedMs) / 1000);
    }
  }
}

/** One line when something changed for the workspace, and none while it stays as it is, however often it is tried. */
function logTransition(logger: Logger, before: Condition | undefined, after: Condition | undefined): void {
  if (after === undefined || (before?.status === after.status && before.reason === after.reason)) return;
  const fields = { ready: after.status, reason: after.reason, message: after.message };
  if (after.status === 'True') logger.info('ready', fields);
  else logger.warn('not ready', fields);
}

function idleReason(workspace: Workspace): PassFacts['idle'] {
  if (workspace.suspend) return { reason: 'Suspended', message: 'spec.suspend is true; nothing is looked at or changed' };
  if (targetKind(workspace.target) !== 'external') return undefined;
  return { reason: 'Pull', message: 'an external workspace fetches for itself; plugset never looks at it' };
}

function effectivePolicy(workspace: Workspace): Policy {
  return workspace.deleting ? { ...workspace.policy, prune: 'Managed' } : workspace.policy;
}

/** Digest of everything besides the target that a plan depends on. */
function desiredKey(pass: Pass): string {
  const desired = pass.desired.plugins.map((plugin: DesiredPlugin) =>
    plugin.kind === 'resolved' ? [plugin.name, plugin.digest, plugin.stale?.reason] : [plugin.name, plugin.error.reason],
  );
  return sha256(canonicalJson({ desired, policy: pass.workspace.policy, runtime: pass.workspace.runtime }));
}

/** On a target that two workspaces share by mistake, deleting one must not take the other's plugins away. */
function ownedOnly(observation: Observation, key: WorkspaceKey): Observation {
  const isOurs = (plugin: ObservedPlugin): boolean => (plugin.receipt === undefined ? isManaged(plugin) : plugin.receipt.workspace === key);
  return { ...observation, plugins: observation.plugins.filter(isOurs) };
}

function describeEntry(entry: Plan['entries'][number]): string {
  return `${entry.action} ${entry.plugin}`;
}

/** Verdicts after an apply: what failed says why; what is still to do without a failure did not take effect. */
function withFailures(after: Planned, result: ConvergeResult): readonly Verdict[] {
  const unfinished = new Set(after.plan.entries.map((entry) => entry.plugin));
  return after.verdicts.map((verdict) => {
    const error =
      result.failed.get(verdict.name) ??
      (unfinished.has(verdict.name)
        ? transient('VerifyFailed', `plugin ${verdict.name}: the look after the change does not show it; it is tried again`)
        : undefined);
    if (error === undefined) return verdict;
    return { ...verdict, state: 'Failed', reason: error.reason, message: error.message, error };
  });
}

/** The whole transaction failed: every change of the plan with it, and as unknown where nobody can say. */
function withOneFailure(plan: Plan, verdicts: readonly Verdict[], error: ReconcileError): Planned {
  const touched = new Set(plan.entries.map((entry) => entry.plugin));
  const state = error.class === 'unknown' ? 'Unknown' : 'Failed';
  const failed = verdicts.map((verdict): Verdict =>
    touched.has(verdict.name) ? { ...verdict, state, reason: error.reason, message: error.message, error } : verdict,
  );
  return { plan, verdicts: failed };
}

function failuresOf(verdicts: readonly Verdict[]): readonly ReconcileError[] {
  return verdicts.flatMap((verdict) => (verdict.error === undefined ? [] : [verdict.error]));
}

/** The failure that decides when the workspace is tried again: the one that may pass soonest. */
function worstFailure(verdicts: readonly Verdict[]): ReconcileError | undefined {
  const failures = failuresOf(verdicts);
  return failures.find((error) => error.class !== 'terminal') ?? failures[0];
}

