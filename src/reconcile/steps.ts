import { findCondition } from '../domain/condition.ts';
import { waiting, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import { isEmptying, type Gated } from '../domain/gate.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { Plan } from '../domain/plan.ts';
import type { RuntimeProfile } from '../domain/profile.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics, Phase } from '../ports/metrics.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { Loaded } from '../ports/workspace-store.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { Claims, type ClaimsOptions } from './claims.ts';
import { approvedPlans, settleApprovals, settleTakeover, takenFrom } from './decisions.ts';
import type { FleetGuard } from './fleet-guard.ts';
import type { Grants } from './grants.ts';
import { locatePlace } from './locate.ts';
import { Looks, type LooksOptions } from './looks.ts';
import { checkOwnership } from './ownership.ts';
import { beginPass, knownPlugins, passError, planPass, type Pass } from './pass.ts';
import { Places, type PlacesOptions } from './places.ts';
import { Reporter, type ReporterOptions } from './reporter.ts';
import type { PassFacts } from './summarize.ts';

export interface StepsOptions extends ClaimsOptions, LooksOptions, PlacesOptions, ReporterOptions {
  readonly providers: readonly TargetProvider[];
  readonly profiles: readonly RuntimeProfile[];
  readonly guard: FleetGuard;
  readonly grants: Grants;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** Further off than clocks ever differ: no lease was made then. */
const FAR_AHEAD_MS = 86_400_000;

/** A newer leader wrote to the target; by then this process has learned from the store whether it still leads. */
const STALE_FENCE_RECHECK_MS = 30_000;

/** The steps of a pass that a converge, a deletion and a look that changes nothing have in common. */
export class Steps {
  readonly #options: StepsOptions;
  readonly claims: Claims;
  readonly looks: Looks;
  readonly places: Places;
  readonly reporter: Reporter;

  constructor(options: StepsOptions) {
    this.#options = options;
    this.claims = new Claims(options);
    this.looks = new Looks(options);
    this.places = new Places(options);
    this.reporter = new Reporter(options);
  }

  begin(loaded: Extract<Loaded, { kind: 'found' }>, signal: AbortSignal): Pass {
    this.claims.declare(loaded.workspace);
    return beginPass(loaded, signal, this.#options.logger);
  }

  async locate(pass: Pass): Promise<HostPlace> {
    const { profiles, providers } = this.#options;
    const place = await locatePlace(pass.workspace, providers, profiles, pass.signal);
    pass.target = place.target.description;
    pass.identity = place.target.identity;
    pass.writerUid = place.profile.owner === 'configDir' ? undefined : place.profile.owner.uid;
    this.claims.identify(pass.key, place.target);
    return place;
  }

  /**
   * A takeover is only asked for where somebody else manages the target, or where a person wants an answer. Whose receipts
   * are void is asked where they are on declared plugins: only those are adopted.
   */
  async checkOwnership(pass: Pass, authority: string, observation: Observation): Promise<void> {
    const isForeign = observation.fence !== undefined && observation.fence.authority !== authority;
    if (isForeign || pass.request !== undefined) {
      const takeover = await this.#options.grants.open('takeover', pass.key, pass.signal);
      pass.grants = { ...pass.grants, takeover: takeover ?? null };
      settleTakeover(pass, pass.workspace.generation, observation);
    }
    const rivals = (): Promise<readonly WorkspaceKey[]> => this.claims.rivalsOf(pass.key, pass.signal);
    await checkOwnership(pass.key, rivals, authority, takenFrom(pass, observation), pass.target, observation);
    const declared = new Set(pass.desired.plugins.map(({ name }) => name));
    const onDeclared = [...observation.plugins, ...(observation.settings ?? [])].filter(({ name }) =>
      declared.has(name),
    );
    const named = new Set(onDeclared.flatMap(({ receipt }) => receipt?.workspace ?? []));
    named.delete(pass.key);
    pass.formerOwners = named.size === 0 ? named : await this.claims.formerOwners(pass.key, named, pass.signal);
  }

  /** Plans, and asks whether what is planned may be carried out. A `dryRun` takes no room in any count. */
  async plan(pass: Pass, observation: Observation, dryRun = false): Promise<Gated> {
    let gated = planPass(pass, observation);
    const isOwed = observation.journalPending || takenFrom(pass, observation) !== undefined;
    if (gated.plan.entries.length > 0 || isOwed) {
      const { guard } = this.#options;
      pass.fleet = { ...pass.fleet, caps: guard.caps, paused: await guard.paused(pass.signal) };
      gated = planPass(pass, observation);
    }
    gated = await this.#withApproval(pass, observation, gated);
    gated = await this.#withinCaps(pass, observation, gated, dryRun);
    // What the caps hold back may have been agreed to as well.
    gated = await this.#withApproval(pass, observation, gated);
    settleApprovals(pass, gated);
    return gated;
  }

  /** Reads what the operator has agreed to, once, where something waits for that, or where a person wants an answer. */
  async #withApproval(pass: Pass, observation: Observation, gated: Gated): Promise<Gated> {
    const waits = gated.hold?.reason === 'AwaitingApproval' || gated.hold?.reason === 'PruneHeld';
    if (pass.grants.approval !== undefined || (!waits && pass.request === undefined)) return gated;
    const approval = await this.#options.grants.open('approval', pass.key, pass.signal);
    pass.grants = { ...pass.grants, approval: approval ?? null };
    return approval === undefined ? gated : planPass(pass, observation);
  }

  /** Asks what the caps of the hour say to removals that nobody has agreed to. */
  async #withinCaps(pass: Pass, observation: Observation, gated: Gated, dryRun: boolean): Promise<Gated> {
    const { guard } = this.#options;
    if (removalsOf(gated.allowed).length === 0 || pass.workspace.policy.allowEmpty) return gated;
    const lately = await guard.removedLately(pass.key, pass.signal);
    if (approvedPlans(pass).has(gated.plan.id)) {
      if (!dryRun) await guard.forgive(pass.key, lately, pass.signal);
      return gated;
    }
    pass.fleet = { ...pass.fleet, removedLately: lately.removals };
    const capped = planPass(pass, observation);
    const going = removalsOf(capped.allowed);
    if (going.length === 0) return capped;
    const known = knownPlugins(pass);
    const removal = {
      workspace: pass.key,
      plugins: going,
      strangers: new Set(going.filter((plugin) => !known.has(plugin))),
      isEmptying: isEmptying(capped),
    };
    const refusal = await guard.admit(removal, lately, dryRun, pass.signal);
    if (refusal === undefined) return capped;
    pass.fleet = { ...pass.fleet, refusal };
    return planPass(pass, observation);
  }

  /** Runs steps and writes the status whatever became of them; an aborted pass writes nothing. `idle`: why none looks. */
  async reported(
    pass: Pass,
    fence: Fence,
    steps: () => Promise<ReconcileResult>,
    idle?: PassFacts['idle'],
  ): Promise<ReconcileResult> {
    let failure: ReconcileError | undefined;
    let result: ReconcileResult = {};
    try {
      result = await steps();
    } catch (error) {
      failure = passError(pass, error);
      if (failure.class === 'aborted' && failure.reason === 'StaleFence')
        failure = refusedByFence(pass, failure, this.#options.clock.now());
      if (failure.class === 'aborted') throw failure;
      this.looks.forget(pass.key);
    }
    await this.phase('report', pass.key, () =>
      this.reporter.report(pass, fence, failure, failure === undefined ? idle : undefined),
    );
    if (pass.spent.length > 0) await this.#options.grants.spend(pass.key, pass.spent, pass.signal);
    if (failure !== undefined) throw failure;
    return result;
  }

  async phase<T>(phase: Phase, key: WorkspaceKey, step: () => Promise<T>): Promise<T> {
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

function removalsOf({ entries }: Plan): readonly string[] {
  return entries.filter(({ action }) => action === 'remove').map(({ plugin }) => plugin);
}

/**
 * Refused by the target while our turn still seems good: whether it is, only the store knows, and it accepts the
 * status that says so or refuses it.
 */
function refusedByFence(pass: Pass, error: ReconcileError, nowMs: number): ReconcileError {
  const isNews = findCondition(pass.previous.conditions, 'Ready')?.reason !== 'StaleFence';
  const fields = { target: pass.target, error };
  pass.logger[isNews ? 'warn' : 'debug'](
    'the target refused a write: its fence says that a newer leader has written to it',
    fields,
  );
  const isImpossible = (pass.observation?.fence?.epoch ?? 0) > nowMs + FAR_AHEAD_MS;
  const advice = isImpossible
    ? ' That lies in the future, so somebody has written .plugset/fence in its config directory: remove that file there.'
    : '';
  return waiting('StaleFence', `${error.message}${advice}`, STALE_FENCE_RECHECK_MS, error);
}
