import { z } from 'zod';

import { transient } from '../../domain/errors.ts';
import { isLaterTurn, type Turn } from '../../domain/fence.ts';
import { stateKey } from '../../domain/state-key.ts';
import type { ControllerState } from '../../ports/controller-state.ts';

/** The newest turn that ever began in this cluster. */
export const FENCE_KEY = stateKey('fleet', 'fence');

const LARGEST = 999_999_999_999_999;
const turnSchema = z.object({
  epoch: z
    .int()
    .min(0)
    .max(LARGEST - 1),
  n: z
    .int()
    .min(0)
    .max(LARGEST - 1),
});

/** Each is lost only against another process that has just begun a turn. */
const ROUNDS = 5;

/**
 * What a Lease alone forgets when it is deleted: the clock that stamps the next one may have been set back, or be that of
 * another server, and targets would refuse every leader for ever. A document that cannot be read says nothing and is written anew.
 */
export class FenceFloor {
  readonly #state: ControllerState;

  constructor(state: ControllerState) {
    this.#state = state;
  }

  async current(signal: AbortSignal): Promise<Turn | undefined> {
    return turnIn(await this.#state.get(FENCE_KEY, signal));
  }

  /** `false`: a turn that is no older has begun meanwhile. */
  async raise({ epoch, n }: Turn, signal: AbortSignal): Promise<boolean> {
    for (let round = 0; round < ROUNDS; round++) {
      const known = await this.#state.get(FENCE_KEY, signal);
      const floor = turnIn(known);
      if (floor !== undefined && !isLaterTurn({ epoch, n }, floor)) return false;
      const written = await this.#state.compareAndSwap(FENCE_KEY, known?.version, { epoch, n }, signal);
      if (written !== undefined) return true;
    }
    throw transient('StoreUnavailable', `the controller state ${FENCE_KEY} is written by somebody else all the time`);
  }
}

function turnIn(document: { readonly value: unknown } | undefined): Turn | undefined {
  return turnSchema.safeParse(document?.value).data;
}
