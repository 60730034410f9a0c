import { findCondition } from '../domain/condition.ts';
import { ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import { describePlace, placeOfOtherKind, type KnownPlace } from '../domain/place.ts';
import { isBeyondReach, type Reason } from '../domain/reason.ts';
import type { Hold, LeftBehind, WorkspaceStatus } from '../domain/status.ts';
import { DELETED, type DeletionEnd } from '../domain/transition.ts';
import type { Clock } from '../ports/clock.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { Activations } from './activations.ts';
import { applyPlan, type ApplyPorts } from './apply.ts';
import type { FormerPlaces } from './former-places.ts';
import { isCleanedUp, whyUnseen } from './idle.ts';
import { mayWrite, passError, soonestFailure, unfinished, type Pass } from './pass.ts';
import type { Steps } from './steps.ts';

type ReasonedMessage = Pick<ReconcileError, 'reason' | 'message'>;

export interface DeletionOptions extends ApplyPorts {
  readonly store: WorkspaceStore;
  readonly clock: Clock;
  /** How long a target that cannot be reached is waited for, from when the declaration was taken out. */
  readonly giveUpDeletionAfterMs: number;
}

/** Until a target that cannot be reached is tried again. */
const RETRY_MS = 60_000;

/**
 * The end of a workspace: what we installed is taken away, then the store forgets it. A target that does not exist has
 * nothing left to take away, unless what was put there is on a volume that the next one has too. Such a one, and one that cannot be
 * reached, is waited for. So is a person where a guard holds the removal back, since whoever deletes by mistake (a prune of the wrong path)
 * cannot be told from who means it. When the time is over, whoever waits for the deletion (a namespace, a platform) is let go,
 * nothing is taken away, and people are told what may lie there still.
 */
export class Deletion {
  readonly #steps: Steps;
  readonly #activations: Activations;
  readonly #formerPlaces: FormerPlaces;
  readonly #options: DeletionOptions;

  constructor(steps: Steps, activations: Activations, formerPlaces: FormerPlaces, options: DeletionOptions) {
    this.#steps = steps;
    this.#activations = activations;
    this.#formerPlaces = formerPlaces;
    this.#options = options;
  }

  /** `undefined`: something holds the removal back, and status says what. */
  async carryOut(pass: Pass, fence: Fence): Promise<DeletionEnd | undefined> {
    let end: DeletionEnd | undefined = DELETED;
    await this.#steps.places.read(pass);
    if (isCleanedUp(pass.workspace)) {
      await this.#steps.reported(pass, fence, async () => {
        end = await this.#takeAway(pass, fence);
        return {};
      });
      if (end === undefined) return undefined;
    }
    await this.#activations.drop(pass);
    await this.#steps.places.drop(pass.key, pass.signal);
    await this.#options.store.finishDeletion(pass.key, fence, pass.signal);
    pass.logger[end === DELETED ? 'info' : 'warn']('workspace deleted', { ...end });
    return end;
  }

  /** Everywhere, also where the workspace was before. `undefined`: people may still decide about it. */
  async #takeAway(pass: Pass, fence: Fence): Promise<DeletionEnd | undefined> {
    const hung = findCondition(pass.previous.conditions, 'Ready');
    // It would use up this pass as well, and nothing can be ended by a pass whose time is over.
    if (hung?.reason === 'PassTimeout' && this.#timeLeftMs(pass) <= 0) return uncleanEnd(pass.previous, [hung]);
    const { end, failure } = await this.#cleanHere(pass, fence);
    const failedElsewhere = await this.#formerPlaces.clean(pass, undefined, fence);
    const elsewhere = pass.leftBehind ?? [];
    const ends = ({ reason }: Pick<ReasonedMessage, 'reason'>): boolean =>
      isHold(reason) || isBeyondReach(reason) || this.#isGivenUp(pass, reason);
    if (failedElsewhere !== undefined && !elsewhere.every(ends)) throw failedElsewhere;
    const unreached = failure ?? failedElsewhere;
    if (unreached !== undefined && !isNothingThere(pass) && this.#timeLeftMs(pass) > 0)
      throw this.#waitingFor(pass, unreached);
    const hold = pass.planned?.hold ?? pass.heldElsewhere?.hold;
    if (hold !== undefined && this.#holdLeftMs(pass, hold) > 0) {
      this.#sayHowLong(pass);
      return undefined;
    }
    const left = [failure ?? [], pass.planned?.hold ?? [], elsewhere].flat();
    return left.length === 0 || isNothingThere(pass) ? end : uncleanEnd(pass.previous, left);
  }

  /** `failure`: it cannot be reached, or has refused until the time was over. Throws every other one. */
  async #cleanHere(
    pass: Pass,
    fence: Fence,
  ): Promise<{ readonly end: DeletionEnd; readonly failure?: ReconcileError }> {
    // Nothing was ever put on a target of another kind than the one that was declared first.
    const isOtherKind = placeOfOtherKind(pass.workspace, pass.places?.places ?? []) !== undefined;
    if (whyUnseen(pass.workspace) !== undefined || isOtherKind) return { end: DELETED };
    try {
      return { end: await this.#clean(pass, fence) };
    } catch (thrown) {
      const failure = passError(pass, thrown);
      const isGone = failure.reason === 'WorkspaceNotFound';
      if (isGone && !this.#steps.places.keepsFiles(pass))
        return { end: untouchedEnd(`its target does not exist: ${failure.message}`) };
      const ends = isGone || isBeyondReach(failure.reason) || this.#isGivenUp(pass, failure.reason);
      if (pass.signal.aborted || !ends) throw failure;
      return { end: DELETED, failure };
    }
  }

  async #clean(pass: Pass, fence: Fence): Promise<DeletionEnd> {
    const place = await this.#steps.locate(pass);
    const observation = await this.#steps.looks.lookForChange(pass, place);
    if (observation.fence !== undefined && observation.fence.authority !== fence.authority) {
      const { authority } = observation.fence;
      pass.logger.warn('deleted while another controller manages its target; nothing is removed', { authority });
      return untouchedEnd(`another controller manages its target (authority ${authority})`);
    }
    const { allowed, hold } = await this.#steps.plan(pass, observation);
    if (hold !== undefined || (allowed.entries.length === 0 && !observation.journalPending)) return DELETED;
    if (!mayWrite(pass)) throw unfinished(pass);
    await this.#steps.phase('converge', pass.key, () =>
      applyPlan(pass, place, allowed, observation, fence, { ...this.#options, looks: this.#steps.looks }),
    );
    const failure = soonestFailure(pass.planned?.verdicts ?? []);
    if (failure !== undefined) throw failure;
    return DELETED;
  }

  #timeLeftMs({ workspace }: Pass): number {
    return workspace.declaredAtMs + this.#options.giveUpDeletionAfterMs - this.#options.clock.now();
  }

  /** Whatever it is: it has stood in the way of passes before, and the time is over. Not what the store or a pause stops. */
  #isGivenUp(pass: Pass, reason: Reason): boolean {
    const isOld = [findCondition(pass.previous.conditions, 'Ready'), ...(pass.previous.leftBehind ?? [])].some(
      (before) => before?.reason === reason,
    );
    return isOld && !NEVER_GIVEN_UP.has(reason) && this.#timeLeftMs(pass) <= 0;
  }

  /** Who would decide gets the whole time, also where nobody could for long because no controller ran. */
  #holdLeftMs(pass: Pass, { reason }: Pick<Hold, 'reason'>): number {
    if (reason === 'Paused') return Infinity;
    const since = reason === 'PruneHeld' ? pass.previous.pruneHeldSince : undefined;
    const isNew = reason === 'PruneHeld' && since === undefined;
    const sinceMs = since === undefined ? 0 : Date.parse(since) - pass.workspace.declaredAtMs;
    return isNew ? this.#options.giveUpDeletionAfterMs : this.#timeLeftMs(pass) + Math.max(0, sinceMs);
  }

  #sayHowLong(pass: Pass): void {
    const { giveUpDeletionAfterMs: ms } = this.#options;
    const add = (hold: Hold): Hold => {
      if (hold.reason === 'Paused' || ms === Infinity) return hold;
      const message = `${hold.message}; ${Math.ceil(ms / 60_000)} min after it was held it ends by itself, and what is installed stays`;
      return { ...hold, message };
    };
    if (pass.planned?.hold !== undefined) pass.planned = { ...pass.planned, hold: add(pass.planned.hold) };
    if (pass.heldElsewhere !== undefined) {
      pass.heldElsewhere = { ...pass.heldElsewhere, hold: add(pass.heldElsewhere.hold) };
    }
  }

  /** A wait with an end: what holds it up is asked for again and again, and once more when the time is over. */
  #waitingFor(pass: Pass, failure: ReconcileError): ReconcileError {
    const timeLeftMs = this.#timeLeftMs(pass);
    if (timeLeftMs === Infinity) return failure;
    const until = new Date(pass.workspace.declaredAtMs + this.#options.giveUpDeletionAfterMs).toISOString();
    const message = `waits until ${until} for its target, then ends and leaves there what was installed: ${failure.message}`;
    // After an unknown outcome somebody has to look at once.
    const kind = failure.class === 'unknown' ? 'unknown' : 'waiting';
    const retryAfterMs = Math.min(timeLeftMs, failure.retryAfterMs ?? RETRY_MS);
    return new ReconcileError(kind, failure.reason, message, { cause: failure, retryAfterMs });
  }
}

/** Nothing of the target: the store cannot be asked, another process leads, or the operator has stopped everything. */
const NEVER_GIVEN_UP: ReadonlySet<Reason> = new Set<Reason>(['StoreUnavailable', 'Paused']);

function isHold(reason: Reason): boolean {
  return reason === 'PruneHeld' || reason === 'AwaitingApproval';
}

/** Two records, of which a pass makes the first before it puts the first byte anywhere. */
function isNothingThere({ places, previous }: Pass): boolean {
  return places?.places.length === 0 && Object.keys(previous.converged).length === 0;
}

function untouchedEnd(why: string): DeletionEnd {
  return { ...DELETED, message: `${DELETED.message}; nothing was taken away: ${why}` };
}

/** Of a declaration that cannot be used, which nobody can clean up after: what it was when something was put there is remembered. */
export function unusableEnd(previous: WorkspaceStatus, places: readonly KnownPlace[], why: string): DeletionEnd {
  if (places.length === 0 && Object.keys(previous.converged).length === 0) return DELETED;
  const left = places.map((place) => ({ place: describePlace(place), reason: 'InvalidSpec' as const, message: why }));
  return uncleanEnd(previous, left.length === 0 ? [{ reason: 'InvalidSpec', message: why }] : left);
}

/** What may lie there still, and where: on the target that is declared, in every former place. */
function uncleanEnd(previous: WorkspaceStatus, unreached: readonly (ReasonedMessage | LeftBehind)[]): DeletionEnd {
  const plugins = Object.keys(previous.converged).toSorted();
  const here = previous.target === '' ? 'its target' : previous.target;
  const places = unreached.map((one) => ('place' in one ? one.place : here));
  const why = new Set(unreached.map(({ reason, message }) => `${reason}: ${message}`));
  const what = plugins.length === 0 ? 'what plugset has put there' : plugins.join(', ');
  const message = `left behind in ${places.join(', in ')}: ${what}; ${[...why].join('; ')}`;
  return { reason: 'DeletedUnclean', message };
}
