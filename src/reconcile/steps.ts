import { findCondition } from '../domain/condition.ts';
import { waiting, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import { isEmptying, type Gated } from '../domain/gate.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import type { RuntimeProfile } from '../domain/profile.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics, Phase } from '../ports/metrics.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { Loaded } from '../ports/workspace-store.ts';
import type { TargetProvider } from '../ports/workspace-target.ts';
import { Claims, type ClaimsOptions } from './claims.ts';
import { approvedPlan, settleApproval, takenFrom } from './decisions.ts';
import type { FleetGuard } from './fleet-guard.ts';
import { locatePlace } from './locate.ts';
import { Looks, type LooksOptions } from './looks.ts';
import { checkOwnership } from './ownership.ts';
import { beginPass, passError, planPass, type Pass } from './pass.ts';
import { Reporter, type ReporterOptions } from './reporter.ts';

export interface StepsOptions extends ClaimsOptions, LooksOptions, ReporterOptions {
  readonly providers: readonly TargetProvider[];
  readonly profiles: readonly RuntimeProfile[];
  readonly guard: FleetGuard;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/** A newer leader wrote to the target; by then this process has learned from the store whether it still leads. */
const STALE_FENCE_RECHECK_MS = 30_000;

/** The steps of a pass that a converge, a deletion and a look that changes nothing have in common. */
export class Steps {
  readonly #options: StepsOptions;
  readonly claims: Claims;
  readonly looks: Looks;
  readonly reporter: Reporter;

  constructor(options: StepsOptions) {
    this.#options = options;
    this.claims = new Claims(options);
    this.looks = new Looks(options);
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
    this.claims.identify(pass.key, place.target.identity);
    return place;
  }

  checkOwnership(pass: Pass, authority: string, observation: Observation): Promise<void> {
    return checkOwnership(
      pass.key,
      () => this.claims.rivalsOf(pass.key, pass.signal),
      authority,
      takenFrom(pass, observation),
      pass.target,
      observation,
    );
  }

  /** Plans, and asks the fleet whether what is planned may be carried out. A `dryRun` takes no room in any count. */
  async plan(pass: Pass, observation: Observation, dryRun = false): Promise<Gated> {
    let gated = planPass(pass, observation);
    const isOwed = observation.journalPending || pass.takeover !== undefined;
    if (gated.plan.entries.length > 0 || isOwed) {
      const { guard } = this.#options;
      pass.fleet = { caps: guard.caps, paused: await guard.paused(pass.signal), mayBeEmptied: true };
      gated = planPass(pass, observation);
      const isAgreed = pass.workspace.policy.allowEmpty || approvedPlan(pass) === gated.plan.id;
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

  /** Runs steps and writes the status whatever became of them; an aborted pass writes nothing. */
  async reported(pass: Pass, fence: Fence, steps: () => Promise<ReconcileResult>): Promise<ReconcileResult> {
    let failure: ReconcileError | undefined;
    let result: ReconcileResult = {};
    try {
      result = await steps();
    } catch (error) {
      failure = passError(pass, error);
      if (failure.reason === 'StaleFence') failure = refusedByFence(pass, failure);
      if (failure.class === 'aborted') throw failure;
      this.looks.forget(pass.key);
    }
    await this.phase('report', pass.key, () => this.reporter.report(pass, fence, failure));
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
