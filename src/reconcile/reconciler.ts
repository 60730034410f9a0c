import type { ActivationLimits } from '../domain/activation.ts';
import { classifyError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import type { Gated } from '../domain/gate.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { Plan } from '../domain/plan.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { Loaded } from '../ports/workspace-store.ts';
import type { ProbeResult } from '../ports/workspace-target.ts';
import { Activations } from './activations.ts';
import { applyPlan, inWords } from './apply.ts';
import { approvedPlans, takenFrom } from './decisions.ts';
import { declaredSources } from './declared-sources.ts';
import { Deletion, unusableEnd } from './deletion.ts';
import { resolveDesired, type DesiredPorts } from './desired.ts';
import type { FormerPlaces } from './former-places.ts';
import type { FleetRestarts } from './fleet-restarts.ts';
import { idleReason, isCleanedUp } from './idle.ts';
import { providerAt } from './locate.ts';
import { isConverged, isIntact, mayWrite, soonestFailure, type Pass } from './pass.ts';
import { Presumption } from './presumption.ts';
import { forecastRestart } from './restart-forecast.ts';
import { activationClass, takenUp } from './activation-class.ts';
import type { Steps, StepsOptions } from './steps.ts';

export interface ReconcilerOptions extends StepsOptions, DesiredPorts {
  readonly state: ControllerState;
  readonly activation: ActivationLimits;
  /** Left out: only each workspace has a budget. */
  readonly fleetRestarts?: FleetRestarts | undefined;
  readonly giveUpDeletionAfterMs: number;
  /** Between two passes over a workspace that is as declared, milliseconds; ±10 % jitter. */
  readonly probeIntervalMs: number;
}

/**
 * One pass over one workspace, the way of one change (design section 3): load, locate, resolve, observe, plan, converge,
 * report. Reads everything anew each time; whatever woke it is unknown here.
 */
export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #steps: Steps;
  readonly #activations: Activations;
  readonly #deletion: Deletion;
  readonly #formerPlaces: FormerPlaces;
  readonly #presumption = new Presumption();

  constructor(steps: Steps, formerPlaces: FormerPlaces, options: ReconcilerOptions) {
    this.#options = options;
    this.#steps = steps;
    this.#activations = new Activations({ ...options, limits: options.activation });
    this.#formerPlaces = formerPlaces;
    this.#deletion = new Deletion(steps, this.#activations, formerPlaces, options);
  }

  /**
   * Brings one workspace to what is declared for it, or says in its status why not.
   * Throws the {@link ReconcileError} that decides when it is tried again. `fence` is the turn it acts under.
   */
  async reconcile(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<ReconcileResult> {
    const loaded = await this.#steps.phase('load', key, () => this.#options.store.get(key, signal));
    if (loaded.kind === 'absent') {
      await this.#steps.places.drop(key, signal);
      this.#steps.reporter.vanished(key, fence);
      return this.#forget(key);
    }
    if (loaded.kind === 'malformed') return this.#malformed(loaded, fence, signal);
    const pass = this.#steps.begin(loaded, signal);
    if (pass.workspace.deleting) return this.#delete(pass, fence);
    const idle = idleReason(pass.workspace);
    if (idle === undefined) return this.#steps.reported(pass, fence, () => this.#converge(pass, fence));
    this.#options.metrics.declared(key, []);
    return this.#steps.reported(pass, fence, () => this.#idle(pass), idle);
  }

  /** When every file of its target is looked at again, at the latest; `undefined`: in its next pass. */
  deepLookInMs(key: WorkspaceKey): number | undefined {
    return this.#steps.looks.deepInMs(key);
  }

  /** What pulls for itself may have been a target before. */
  async #idle(pass: Pass): Promise<ReconcileResult> {
    if (!pass.workspace.suspend) await this.#steps.places.recall(pass);
    return {};
  }

  async #converge(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const { metrics, registry } = this.#options;
    const place = await this.#steps.phase('locate', pass.key, () => this.#arrive(pass, fence));
    pass.desired = await this.#steps.phase('resolve', pass.key, () =>
      resolveDesired(pass.workspace, this.#options, pass.request !== undefined, pass.signal),
    );
    metrics.declared(pass.key, declaredSources(pass.desired.plugins, registry.schemes));
    const probe = await this.#steps.phase('probe', pass.key, () => this.#steps.looks.probe(pass, place));
    const standing = this.#steps.looks.standing(pass, place, probe);
    if (standing === undefined && mayBeBlank(probe) && (await this.#convergeUnseen(pass, place, fence)))
      return this.#finish(pass, place, fence);
    const look = (): Promise<Observation> =>
      this.#steps.phase('observe', pass.key, () => this.#steps.looks.lookForChange(pass, place));
    let observation = standing ?? (await look());
    this.#presumption.learn(pass, observation);
    await this.#steps.checkOwnership(pass, fence.authority, observation);
    const plan = (): Promise<Gated> => this.#steps.phase('plan', pass.key, () => this.#steps.plan(pass, observation));
    let gated = await plan();
    if (standing !== undefined && approvedPlans(pass).has(gated.plan.id)) {
      // Whether the world is still the one that somebody approved a plan for, only a look can tell.
      observation = await look();
      gated = await plan();
    }
    pass.wasIntact = isIntact(pass, observation);
    const { allowed } = gated;
    const former = takenFrom(pass, observation);
    // What was committed is finished whatever waits now; it was allowed then.
    const isOwed = (observation.journalPending || former !== undefined) && mayWrite(pass);
    if (allowed.entries.length > 0 || isOwed) {
      await this.#apply(pass, place, { plan: allowed, before: observation, takenFrom: former }, fence);
    } else if (standing === undefined) {
      this.#steps.looks.remember(pass, place, probe, observation);
    }
    return this.#finish(pass, place, fence);
  }

  /** Finds the place, and sees to it before anything is put there that the place is remembered and a deletion waits. */
  async #arrive(pass: Pass, fence: Fence): Promise<HostPlace> {
    await this.#steps.places.recall(pass);
    const place = await this.#running(pass);
    // Not before the target is found, nor where it is to stay as it is: what was never there holds no deletion up.
    if (isCleanedUp(pass.workspace)) await this.#options.store.claim?.(pass.key, fence, pass.signal);
    await this.#steps.places.note(pass, place);
    return place;
  }

  /** A target that a restart of ours has left stopped is started again. */
  async #running(pass: Pass): Promise<HostPlace> {
    try {
      return await this.#steps.locate(pass);
    } catch (error) {
      if (classifyError(error).reason !== 'WorkspaceNotRunning') throw error;
      const provider = providerAt(pass.workspace, this.#options.providers);
      const stopped = await provider.locateStopped?.(pass.workspace, pass.signal);
      if (stopped === undefined) throw error;
      const mayAct = async (): Promise<boolean> =>
        pass.workspace.policy.mode !== 'Observe' && (await this.#options.guard.paused(pass.signal)) === undefined;
      if (!(await this.#activations.revive(pass, stopped, mayAct))) throw error;
      return this.#steps.locate(pass);
    }
  }

  /** The new place first: what is left in a former one goes when everything is as declared here. */
  async #finish(pass: Pass, place: HostPlace, fence: Fence): Promise<ReconcileResult> {
    const result = await this.#activated(pass, place);
    await this.#foretell(pass, place);
    if (isConverged(pass)) await this.#formerPlaces.clean(pass, place, fence);
    return result;
  }

  /** Carries a plan out, and remembers that the runtime has to take it up. */
  async #apply(pass: Pass, place: HostPlace, work: Work, fence: Fence): Promise<void> {
    const apply = (): Promise<void> =>
      applyPlan(pass, place, work.plan, work.before, fence, { ...this.#options, looks: this.#steps.looks, ...work });
    const moving = takenUp(work.plan.entries, place.profile);
    const finishes = work.before.journalPending;
    const change = {
      planId: work.plan.id,
      summary: inWords(work.plan, work.takenFrom, 'planned'),
      isCorrective: !finishes && moving.every(({ cause }) => cause === 'corrective'),
      finishes,
    };
    await this.#steps.phase('converge', pass.key, async () => {
      const kind = await activationClass(pass, place, work.plan, work.before, this.#steps.looks);
      return kind === 'none' ? apply() : this.#activations.around(pass, place, { ...change, kind }, apply);
    });
  }

  /** What it changed, and what passes before it did, is taken up by the runtime when it is due. */
  async #activated(pass: Pass, place: HostPlace): Promise<ReconcileResult> {
    if (place.target.activator === undefined) {
      pass.activation = null;
      return this.#again(pass);
    }
    const mayAct = pass.workspace.policy.mode !== 'Observe' && (await this.#mayRestart(pass));
    const { pending, requeueAfterMs, restarted } = await this.#steps.phase('activate', pass.key, () =>
      this.#activations.advance(pass, place, mayAct),
    );
    pass.activation = pending ?? null;
    if (restarted) this.#steps.looks.forget(pass.key);
    const again = this.#again(pass);
    if (requeueAfterMs === undefined || requeueAfterMs > (again.requeueAfterMs ?? Infinity)) return again;
    return { ...again, requeueAfterMs, requeueFor: 'restart' };
  }

  /** Who agrees to what waits is told before whether a restart follows it. */
  async #foretell(pass: Pass, place: HostPlace): Promise<void> {
    const { planned, previous } = pass;
    if (planned?.hold === undefined) return;
    // Asked once for each plan: it may wait for days.
    const isKnown = previous.planId === planned.plan.id && previous.held !== undefined;
    const restart = isKnown
      ? previous.held?.restart
      : await forecastRestart(pass, place, planned.plan, this.#options.state, this.#steps.looks);
    pass.planned = { ...planned, hold: { ...planned.hold, restart } };
  }

  /** A target that seems new is spared the look before its first plugins. `false`: look. */
  async #convergeUnseen(pass: Pass, place: HostPlace, fence: Fence): Promise<boolean> {
    if (
      !this.#presumption.isWorthTrying(pass, place) ||
      (await this.#steps.claims.rivalsOf(pass.key, pass.signal)).length > 0
    )
      return false;
    return this.#presumption.attempt(pass, place, async (attempt, blank) => {
      const { allowed, hold } = await this.#steps.phase('plan', pass.key, () => this.#steps.plan(attempt, blank));
      if (hold !== undefined) return false;
      await this.#apply(attempt, place, { plan: allowed, before: blank, expectsBlank: true }, fence);
      return true;
    });
  }

  /** A restart is a change like any other: none while the fleet is paused, and none while that cannot be told. */
  async #mayRestart(pass: Pass): Promise<boolean> {
    return this.#activations.isAwaited(pass) && (await this.#options.guard.paused(pass.signal)) === undefined;
  }

  /** One bad plugin leaves the workspace on its probe clock, so that the others go on being looked after. */
  #again(pass: Pass): ReconcileResult {
    const { clock, probeIntervalMs } = this.#options;
    const requeueAfterMs = probeIntervalMs * (0.9 + clock.random() * 0.2);
    return { requeueAfterMs, failure: soonestFailure(pass.planned?.verdicts ?? []) };
  }

  /** A declaration that cannot be used is reported; of one that was also deleted it is told what stays where it was. */
  async #malformed(
    loaded: Extract<Loaded, { kind: 'malformed' }>,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<ReconcileResult> {
    if (!loaded.deleting) throw await this.#steps.reporter.reportMalformed(loaded, fence, signal);
    const places = await this.#steps.places.known(loaded.key, signal);
    const end = unusableEnd(loaded.status, places, `its declaration cannot be used: ${loaded.problems.join('; ')}`);
    await this.#steps.places.drop(loaded.key, signal);
    await this.#options.store.finishDeletion(loaded.key, fence, signal);
    const { key: workspace, problems } = loaded;
    this.#options.logger.warn('deleted with a declaration that cannot be used; what was installed for it stays', {
      workspace,
      problems,
    });
    this.#steps.reporter.deleted(loaded.key, loaded.status, fence, end);
    return this.#forget(loaded.key);
  }

  /** Takes away what we installed, then forgets. */
  async #delete(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const end = await this.#deletion.carryOut(pass, fence);
    if (end === undefined) return this.#again(pass);
    this.#steps.reporter.deleted(pass.key, pass.previous, fence, end);
    return this.#forget(pass.key);
  }

  #forget(key: WorkspaceKey): ReconcileResult {
    this.#steps.claims.forget(key);
    this.#options.revisions.follow(key, []);
    this.#steps.looks.forget(key);
    this.#presumption.forget(key);
    this.#formerPlaces.forget(key);
    this.#activations.forget(key);
    this.#steps.reporter.forget(key);
    return {};
  }
}

/** A plan and what it starts from. */
interface Work {
  readonly plan: Plan;
  readonly before: Observation;
  readonly expectsBlank?: boolean;
  readonly takenFrom?: string | undefined;
}

function mayBeBlank(probe: ProbeResult): boolean {
  return probe.kind === 'blank' || probe.kind === 'unsupported' || (probe.kind === 'token' && probe.isBlind === true);
}
