import { classifyError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import { placeOfOtherKind } from '../domain/place.ts';
import type { ReconcileResult } from '../ports/reconciler.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import type { Activations } from './activations.ts';
import { applyPlan, type ApplyPorts } from './apply.ts';
import type { FormerPlaces } from './former-places.ts';
import { isCleanedUp, whyUnseen } from './idle.ts';
import { mayWrite, soonestFailure, unfinished, type Pass } from './pass.ts';
import type { Steps } from './steps.ts';

export interface DeletionOptions extends ApplyPorts {
  readonly store: WorkspaceStore;
}

/** The end of a workspace: what we installed is taken away, then the store forgets it. */
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

  /** `false`: something holds the removal back, and status says what. */
  async carryOut(pass: Pass, fence: Fence): Promise<boolean> {
    await this.#steps.places.read(pass);
    if (isCleanedUp(pass.workspace)) {
      await this.#steps.reported(pass, fence, () => this.#takeAway(pass, fence));
      if (pass.planned?.hold !== undefined || pass.heldElsewhere !== undefined) return false;
    }
    await this.#activations.drop(pass);
    await this.#steps.places.drop(pass.key, pass.signal);
    await this.#options.store.finishDeletion(pass.key, fence, pass.signal);
    pass.logger.info('workspace deleted');
    return true;
  }

  /** Everywhere, also where the workspace was before. */
  async #takeAway(pass: Pass, fence: Fence): Promise<ReconcileResult> {
    const places = pass.places?.places ?? [];
    // Nothing was ever put on a target of another kind than the one that was declared first.
    if (whyUnseen(pass.workspace) === undefined && placeOfOtherKind(pass.workspace, places) === undefined) {
      await this.#cleanIfThere(pass, fence);
    }
    const failure = await this.#formerPlaces.clean(pass, undefined, fence);
    if (failure !== undefined) throw failure;
    return {};
  }

  /** A target that does not exist has nothing left to take away. */
  async #cleanIfThere(pass: Pass, fence: Fence): Promise<void> {
    const { target } = pass.workspace;
    try {
      await this.#clean(pass, fence);
    } catch (error) {
      if (classifyError(error).reason !== 'WorkspaceNotFound') throw error;
      pass.logger.warn('deleted while its target does not exist; nothing is removed', { target });
    }
  }

  async #clean(pass: Pass, fence: Fence): Promise<void> {
    const place = await this.#steps.locate(pass);
    const observation = await this.#steps.looks.look(pass, place);
    if (observation.fence !== undefined && observation.fence.authority !== fence.authority) {
      const { authority } = observation.fence;
      pass.logger.warn('deleted while another controller manages its target; nothing is removed', { authority });
      return;
    }
    const { allowed, hold } = await this.#steps.plan(pass, observation);
    if (hold !== undefined || (allowed.entries.length === 0 && !observation.journalPending)) return;
    if (!mayWrite(pass)) throw unfinished(pass);
    await this.#steps.phase('converge', pass.key, () =>
      applyPlan(pass, place, allowed, observation, fence, this.#options),
    );
    const failure = soonestFailure(pass.planned?.verdicts ?? []);
    if (failure !== undefined) throw failure;
  }
}
