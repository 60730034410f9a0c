import { findCondition } from '../domain/condition.ts';
import type { ActivationLimits } from '../domain/activation.ts';
import { classifyError, waiting, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { isEmptying, type Gated } from '../domain/gate.ts';
import type { Plan, Verdict } from '../domain/plan.ts';
import type { RuntimeProfile } from '../domain/profile.ts';
import type { WorkspaceStatus } from '../domain/status.ts';
import { targetKind, type Workspace } from '../domain/workspace.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { Logger } from '../ports/logger.ts';
import { mapAtOnce } from '../ports/map-at-once.ts';
import type { Metrics, Phase } from '../ports/metrics.ts';
import type { Notifier } from '../ports/notifier.ts';
import type { HostPlace, PluginHost } from '../ports/plugin-host.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { Activations } from './activations.ts';
import { applyPlan } from './apply.ts';
import { declaredSources } from './declared-sources.ts';
import { resolveDesired, type DesiredPorts } from './desired.ts';
import { locatePlace, providerOf } from './locate.ts';
import { Looks } from './looks.ts';
import { checkOwnership } from './ownership.ts';
import { approvedPlan, beginPass, passError, planPass, takenFrom, type Pass } from './pass.ts';
import { Presumption } from './presumption.ts';
import { Reporter } from './reporter.ts';
import type { PassFacts } from './summarize.ts';
import { guessSources, surveyOf, type SurveyedPlugin } from './survey.ts';
import type { TargetIndex } from './target-index.ts';
import type { FleetGuard } from './fleet-guard.ts';

export interface ReconcilerOptions extends DesiredPorts {
  readonly store: WorkspaceStore;
  readonly providers: readonly TargetProvider[];
  readonly host: PluginHost;
  readonly profiles: readonly RuntimeProfile[];
  readonly index: TargetIndex;
  readonly guard: FleetGuard;
  readonly state: ControllerState;
  readonly activation: ActivationLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
  /** Left out: nobody is told of transitions but the log. */
  readonly notifier?: Notifier | undefined;
  /** Between two passes over a workspace that is as declared, milliseconds; ±10 % jitter. */
  readonly probeIntervalMs: number;
  /** Between two deep looks at a workspace whose probe does not move, milliseconds; ±10 % jitter. */
  readonly deepIntervalMs: number;
  /** Wakes workspaces that waited for this one's claim on a target to go. */
  readonly onReleased: (keys: readonly WorkspaceKey[]) => void;
}

/** What `plugset plan` shows of one workspace. */
export interface Preview {
  readonly kind: 'planned';
  readonly workspace: Workspace;
  readonly target: string;
  readonly planned: Gated;
  readonly observation: Observation;
}

/** What `plugset import` shows of one workspace. */
export interface Survey {
  readonly kind: 'surveyed';
  readonly workspace: Workspace;
  readonly status: WorkspaceStatus;
  readonly plugins: readonly SurveyedPlugin[];
}

/** A newer leader wrote to the target; by then this process has learned from the store whether it still leads. */
const STALE_FENCE_RECHECK_MS = 30_000;
/** Questions to the store at once while the index is filled, and declarations in one answer where it can give several. */
const INTRODUCE_AT_ONCE = 16;
const INTRODUCE_PAGE = 500;

/**
 * One pass over one workspace, the way of one change (design section 3): load, locate, resolve, observe, plan, converge,
 * report. Reads everything anew each time; whatever woke it is unknown here.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #looks: Looks;
  readonly #presumption = new Presumption();
  readonly #reporter: Reporter;
  readonly #activations: Activations;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#looks = new Looks(options);
    this.#reporter = new Reporter(options);
    this.#activations = new Activations({ ...options, limits: options.activation });
  }

  /**
   * Brings one workspace to what is declared for it, or says in its status why not.
   * Throws the {@link ReconcileError} that decides when it is tried again. `fence` is the turn it acts under.
   */
  async reconcile(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<ReconcileResult> {
    const loaded = await this.#phase('load', key, () => this.#options.store.get(key, signal));
    if (loaded.kind === 'absent') return this.#forget(key);
    if (loaded.kind === 'malformed') return this.#malformed(loaded, fence, signal);
    const pass = this.#begin(loaded, signal);
    if (pass.workspace.deleting) return this.#delete(pass, fence);
    const idle = idleReason(pass.workspace);
    if (idle === undefined) return this.#reported(pass, fence, () => this.#converge(pass, fence));
    this.#options.metrics.declared(key, []);
    await this.#phase('report', key, () => this.#reporter.report(pass, fence, undefined, idle));
    return {};
  }

  /**
   * Looks and plans like a pass, and changes nothing anywhere. Answers what the store said where there is nothing to plan.
   * `authority`: who this controller is; `undefined` where it never wrote anything.
   */
  async preview(key: WorkspaceKey, authority: string | undefined, signal: AbortSignal): Promise<Preview | Loaded> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'found' || !hasPlan(loaded.workspace)) return loaded;
    const pass = this.#begin(loaded, signal);
    const place = await this.#locate(pass);
    pass.desired = await resolveDesired(pass.workspace, this.#options, false, signal);
    const observation = await this.#looks.look(pass, place);
    // Who never wrote anything (a CI job with a state directory of its own) shows what whoever manages it would do.
    await this.#checkOwnership(pass, authority ?? observation.fence?.authority ?? 'nobody', observation);
    const planned = await this.#plan(pass, observation, true);
    return { kind: 'planned', workspace: pass.workspace, target: pass.target, planned, observation };
  }

  /** What is on the target of a declared workspace, and where it came from. Changes nothing. */
  async survey(key: WorkspaceKey, signal: AbortSignal): Promise<Survey | Loaded> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'found' || !hasPlan(loaded.workspace)) return loaded;
    const { workspace, status } = loaded;
    const pass = this.#begin(loaded, signal);
    const place = await this.#locate(pass);
    const guesses = guessSources(await this.#looks.look(pass, place), workspace);
    pass.desired = await resolveDesired({ ...workspace, plugins: guesses }, this.#options, false, signal);
    const plugins = surveyOf(await this.#looks.look(pass, place), pass.desired.plugins);
    return { kind: 'surveyed', workspace, status, plugins };
  }

  /** When every file of its target is looked at again, at the latest; `undefined`: in its next pass. */
  deepLookInMs(key: WorkspaceKey): number | undefined {
    return this.#looks.deepInMs(key);
  }

  /** Learns where a workspace points before any pass acts, so that two claims on one target are seen in time. */
  async introduce(key: WorkspaceKey, signal: AbortSignal): Promise<void> {
    const loaded = await this.#options.store.get(key, signal);
    if (loaded.kind !== 'absent') this.#note(key, loaded.kind === 'found' ? loaded.workspace : undefined);
  }

  /** The same for many at once. */
  async introduceAll(keys: readonly WorkspaceKey[], signal: AbortSignal): Promise<void> {
    const { store } = this.#options;
    if (store.declarations === undefined) {
      await mapAtOnce(INTRODUCE_AT_ONCE, keys, (key) => this.introduce(key, signal));
      return;
    }
    for (let from = 0; from < keys.length; from += INTRODUCE_PAGE) {
      const page = await store.declarations(keys.slice(from, from + INTRODUCE_PAGE), signal);
      for (const [key, workspace] of page) this.#note(key, workspace);
    }
  }

  /** A malformed one is counted, and points nowhere. */
  #note(key: WorkspaceKey, workspace: Workspace | undefined): void {
    this.#options.metrics.introduced(key);
    if (workspace !== undefined) this.#declareTarget(workspace);
  }

  #begin(loaded: Extract<Loaded, { kind: 'found' }>, signal: AbortSignal): Pass {
    this.#declareTarget(loaded.workspace);
    return beginPass(loaded, signal, this.#options.logger);
  }

  #declareTarget(workspace: Workspace): void {
    const { index, providers } = this.#options;
    const provider = providerOf(workspace, providers);
    if (provider === undefined) return;
    const addresses = provider.addresses(workspace);
    this.#releasing(workspace.key, () => index.declare(workspace.key, addresses, provider.lane(workspace)));
  }

  // --- the way of one change -----------------------------------------------------------------------------------------

  async #converge(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const { metrics, registry } = this.#options;
    const place = await this.#phase('locate', pass.key, () => this.#locate(pass));
    pass.desired = await this.#phase('resolve', pass.key, () =>
      resolveDesired(pass.workspace, this.#options, pass.request !== undefined, pass.signal),
    );
    metrics.declared(pass.key, declaredSources(pass.desired.plugins, registry.schemes));
    const probe = await this.#phase('probe', pass.key, () => this.#looks.probe(pass, place));
    const standing = this.#looks.standing(pass, place, probe);
    if (probe.kind === 'blank' && (await this.#convergeUnseen(pass, place, fence))) return this.#activated(pass, place);
    const observation = standing ?? (await this.#phase('observe', pass.key, () => this.#looks.look(pass, place)));
    this.#presumption.learn(pass, observation);
    settleTakeover(pass, observation);
    await this.#checkOwnership(pass, fence.authority, observation);
    const { allowed } = await this.#phase('plan', pass.key, () => this.#plan(pass, observation));
    const former = takenFrom(pass, observation);
    // What was committed is finished whatever waits now; it was allowed then.
    const isOwed = (observation.journalPending || former !== undefined) && mayWrite(pass);
    if (allowed.entries.length > 0 || isOwed) {
      await this.#apply(pass, place, { plan: allowed, before: observation, takenFrom: former }, fence);
    } else if (standing === undefined) {
      this.#looks.remember(pass, place, probe, observation);
    }
    return this.#activated(pass, place);
  }

  /** Carries a plan out, and remembers that the runtime has to take it up. */
  async #apply(pass: Pass, place: HostPlace, work: Work, fence: Fence): Promise<void> {
    const apply = (): Promise<void> =>
      applyPlan(pass, place, work.plan, work.before, fence, { ...this.#options, ...work });
    // What is taken over as it lies is running already.
    const moving = work.plan.entries.filter(({ action }) => action !== 'adopt');
    const finishes = work.before.journalPending;
    const change = { isCorrective: !finishes && moving.every(({ cause }) => cause === 'corrective'), finishes };
    await this.#phase('converge', pass.key, () =>
      moving.length === 0 && !finishes ? apply() : this.#activations.around(pass, place, change, apply),
    );
  }

  /** The last step of a pass: what it changed, and what passes before it did, is taken up by the runtime when it is due. */
  async #activated(pass: Pass, place: HostPlace): Promise<ReconcileResult> {
    if (place.target.activator === undefined) {
      pass.activation = null;
      return this.#again(pass);
    }
    const mayAct = pass.workspace.policy.mode !== 'Observe' && (await this.#mayRestart(pass));
    const { pending, requeueAfterMs, restarted } = await this.#phase('activate', pass.key, () =>
      this.#activations.advance(pass, place, mayAct),
    );
    pass.activation = pending ?? null;
    if (restarted) this.#looks.forget(pass.key);
    const again = this.#again(pass);
    return { ...again, requeueAfterMs: Math.min(again.requeueAfterMs ?? Infinity, requeueAfterMs ?? Infinity) };
  }

  /** A target that seems new is spared the look before its first plugins. `false`: look. */
  async #convergeUnseen(pass: Pass, place: HostPlace, fence: Fence): Promise<boolean> {
    if (!this.#presumption.isWorthTrying(pass, place) || (await this.#findRivals(pass)).length > 0) return false;
    return this.#presumption.attempt(pass, place, async (attempt, blank) => {
      const { allowed, hold } = await this.#phase('plan', pass.key, () => this.#plan(attempt, blank));
      if (hold !== undefined) return false;
      await this.#apply(attempt, place, { plan: allowed, before: blank, expectsBlank: true }, fence);
      return true;
    });
  }

  /** A restart is a change like any other: none while the fleet is paused, and none while that cannot be told. */
  async #mayRestart(pass: Pass): Promise<boolean> {
    return this.#activations.isAwaited(pass.key) && (await this.#options.guard.paused(pass.signal)) === undefined;
  }

  /** Plans, and asks the fleet whether what is planned may be carried out. A `dryRun` takes no room in any count. */
  async #plan(pass: Pass, observation: Observation, dryRun = false): Promise<Gated> {
    let gated = planPass(pass, observation);
    const isOwed = observation.journalPending || pass.takeover !== undefined;
    if (gated.plan.entries.length > 0 || isOwed) {
      const { guard } = this.#options;
      pass.fleet = { caps: guard.caps, paused: await guard.paused(pass.signal), mayBeEmptied: true };
      gated = planPass(pass, observation);
      const isAgreed = pass.workspace.policy.allowEmpty || approvedPlan(pass.approval) === gated.plan.id;
      if (isEmptying(gated) && gated.hold === undefined && !isAgreed) {
        // Held once, it stays held until somebody has looked: an hourly cap alone would let a mistake drip through.
        const mayBeEmptied =
          pass.previous.pruneHeldSince === undefined && (await guard.mayEmpty(pass.key, dryRun, pass.signal));
        pass.fleet = { ...pass.fleet, mayBeEmptied };
        gated = planPass(pass, observation);
      }
    }
    settleApproval(pass, gated);
    return gated;
  }

  async #locate(pass: Pass): Promise<HostPlace> {
    const { profiles, providers } = this.#options;
    const place = await locatePlace(pass.workspace, providers, profiles, pass.signal);
    pass.target = place.target.description;
    pass.identity = place.target.identity;
    this.#identify(pass.key, place.target.identity);
    return place;
  }

  #checkOwnership(pass: Pass, authority: string, observation: Observation): Promise<void> {
    return checkOwnership(
      pass.key,
      () => this.#findRivals(pass),
      authority,
      takenFrom(pass, observation),
      pass.target,
      observation,
    );
  }

  /** Who else has this very target. Those that no pass has located yet are located now, or two would start at once. */
  async #findRivals(pass: Pass): Promise<readonly WorkspaceKey[]> {
    const { index, providers, store } = this.#options;
    for (const neighbour of index.unlocatedNeighboursOf(pass.key)) {
      const loaded = await store.get(neighbour, pass.signal);
      if (loaded.kind !== 'found') continue;
      try {
        const target = await providerOf(loaded.workspace, providers)?.locate(loaded.workspace, pass.signal);
        if (target !== undefined) this.#identify(neighbour, target.identity);
      } catch (error) {
        pass.signal.throwIfAborted();
        pass.logger.debug('a workspace that shares an address has no target now', { neighbour, error });
      }
    }
    return index.rivalsOf(pass.key);
  }

  /** Notes what is behind a workspace's address; whoever is no rival of it any more may go on. */
  #identify(key: WorkspaceKey, identity: string): void {
    this.#releasing(key, () => this.#options.index.identify(key, identity));
  }

  #releasing(key: WorkspaceKey, change: () => void): void {
    const { index, onReleased } = this.#options;
    const before = index.rivalsOf(key);
    change();
    const after = new Set(index.rivalsOf(key));
    const released = before.filter((rival) => !after.has(rival));
    if (released.length > 0) onReleased(released);
  }

  /** One bad plugin leaves the workspace on its probe clock, so that the others go on being looked after. */
  #again(pass: Pass): ReconcileResult {
    const { clock, probeIntervalMs } = this.#options;
    const requeueAfterMs = probeIntervalMs * (0.9 + clock.random() * 0.2);
    return { requeueAfterMs, failure: soonestFailure(pass.planned?.verdicts ?? []) };
  }

  /** A declaration that cannot be used is reported; one that was also deleted has nothing left that could be done for it. */
  async #malformed(
    loaded: Extract<Loaded, { kind: 'malformed' }>,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<ReconcileResult> {
    if (!loaded.deleting) throw await this.#reporter.reportMalformed(loaded, fence, signal);
    await this.#options.store.finishDeletion(loaded.key, fence, signal);
    const { key: workspace, problems } = loaded;
    this.#options.logger.warn('deleted with a declaration that cannot be used; what was installed for it stays', {
      workspace,
      problems,
    });
    return this.#forget(loaded.key);
  }

  // --- the end of a workspace ----------------------------------------------------------------------------------------

  /** Takes away what we installed, then forgets. A target that does not exist has nothing left to take away. */
  async #delete(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const { target } = pass.workspace;
    if (hasPlan(pass.workspace)) {
      try {
        await this.#reported(pass, fence, () => this.#clean(pass, fence));
      } catch (error) {
        if (classifyError(error).reason !== 'WorkspaceNotFound') throw error;
        pass.logger.warn('deleted while its target does not exist; nothing is removed', { target });
      }
      if (pass.planned?.hold !== undefined) return this.#again(pass);
    }
    await this.#activations.drop(pass);
    await this.#options.store.finishDeletion(pass.key, fence, pass.signal);
    pass.logger.info('workspace deleted');
    return this.#forget(pass.key);
  }

  async #clean(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const place = await this.#locate(pass);
    const observation = await this.#looks.look(pass, place);
    if (observation.fence !== undefined && observation.fence.authority !== fence.authority) {
      const { authority } = observation.fence;
      pass.logger.warn('deleted while another controller manages its target; nothing is removed', { authority });
      return {};
    }
    const { allowed, hold } = await this.#plan(pass, observation);
    const isOwed = observation.journalPending && mayWrite(pass);
    if (hold !== undefined || (allowed.entries.length === 0 && !isOwed)) return {};
    await this.#phase('converge', pass.key, () => applyPlan(pass, place, allowed, observation, fence, this.#options));
    const failure = soonestFailure(pass.planned?.verdicts ?? []);
    if (failure !== undefined) throw failure;
    return {};
  }

  #forget(key: WorkspaceKey): ReconcileResult {
    const { index, revisions } = this.#options;
    this.#releasing(key, () => index.forget(key));
    revisions.follow(key, []);
    this.#looks.forget(key);
    this.#presumption.forget(key);
    this.#activations.forget(key);
    this.#reporter.forget(key);
    return {};
  }

  // --- around the steps ----------------------------------------------------------------------------------------------

  /** Runs the steps and writes the status whatever became of them; an aborted pass writes nothing. */
  async #reported(pass: Pass, fence: Fence, steps: () => Promise<ReconcileResult>): Promise<ReconcileResult> {
    let failure: ReconcileError | undefined;
    let result: ReconcileResult = {};
    try {
      result = await steps();
    } catch (error) {
      failure = passError(pass, error);
      if (failure.reason === 'StaleFence') failure = refusedByFence(pass, failure);
      if (failure.class === 'aborted') throw failure;
      this.#looks.forget(pass.key);
    }
    await this.#phase('report', pass.key, () => this.#reporter.report(pass, fence, failure));
    if (failure !== undefined) throw failure;
    return result;
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

/** A plan and what it starts from. */
interface Work {
  readonly plan: Plan;
  readonly before: Observation;
  readonly expectsBlank?: boolean;
  readonly takenFrom?: string | undefined;
}

/** Whether a pass over it would look at its target at all. */
function hasPlan(workspace: Workspace): boolean {
  if (!workspace.deleting) return idleReason(workspace) === undefined;
  const { deletion, mode } = workspace.policy;
  return deletion === 'Remove' && mode !== 'Observe' && targetKind(workspace.target) !== 'external';
}

/** Whether anything at all may be changed on the target. */
function mayWrite({ workspace, fleet }: Pass): boolean {
  return workspace.policy.mode !== 'Observe' && fleet.paused === undefined;
}

/**
 * An approval is good for one plan, until that was carried out: a world that has changed meanwhile voids it. A source that
 * cannot be asked now has not changed, and neither has a target that refused.
 */
function settleApproval(pass: Pass, { plan, hold }: Gated): void {
  const approved = approvedPlan(pass.approval);
  if (approved === undefined || hold?.reason === 'Paused' || hold?.reason === 'ObserveOnly') return;
  const isSame = approved === plan.id;
  if (isSame ? plan.entries.length > 0 : pass.desired.plugins.some(({ kind }) => kind === 'unresolved')) return;
  pass.handledApproval = pass.approval;
  const [last] = pass.previous.history;
  // A pass that did not learn what came of it has carried it out.
  if (isSame || (last?.planId === approved && last.outcome === 'Unknown')) return;
  const now = plan.entries.length === 0 ? 'there is nothing to do now' : `the plan is now ${plan.id}`;
  pass.history = { planId: approved, outcome: 'Voided', summary: `approval void, the world has changed: ${now}` };
}

/** One that waited for a target to become the other controller's would be carried out when nobody thinks of it any more. */
function settleTakeover(pass: Pass, observation: Observation): void {
  if (takenFrom(pass, observation) === undefined) pass.handledTakeover = pass.takeover;
}

function idleReason(workspace: Workspace): PassFacts['idle'] {
  if (workspace.suspend)
    return { reason: 'Suspended', message: 'spec.suspend is true; nothing is looked at or changed' };
  if (targetKind(workspace.target) !== 'external') return undefined;
  return { reason: 'Pull', message: 'an external workspace fetches for itself; plugset never looks at it' };
}

/**
 * Refused by the target while our turn still seems good: whether it is, only the store knows, and it accepts the
 * status that says so or refuses it.
 */
function refusedByFence(pass: Pass, error: ReconcileError): ReconcileError {
  const isNews = findCondition(pass.previous.conditions, 'Ready')?.reason !== 'StaleFence';
  const fields = { target: pass.target, error };
  pass.logger[isNews ? 'warn' : 'debug']('the target refused a write: a newer leader has written to it', fields);
  return waiting('StaleFence', error.message, STALE_FENCE_RECHECK_MS, error);
}

/** The failure that decides when the workspace is tried again: the one that may pass soonest. */
function soonestFailure(verdicts: readonly Verdict[]): ReconcileError | undefined {
  const failures = verdicts.flatMap((verdict) => verdict.error ?? []);
  return failures.find((error) => error.class !== 'terminal') ?? failures[0];
}
