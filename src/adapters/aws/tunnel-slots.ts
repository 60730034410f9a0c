import { waiting } from '../../domain/errors.ts';
import { onAbort } from '../../ports/abort.ts';
import type { Clock, Timer } from '../../ports/clock.ts';
import type { Metrics, TunnelState } from '../../ports/metrics.ts';

export interface TunnelSlotsOptions<Holder> {
  /** How many tunnels one endpoint has at a time. AWS allows 20, and humans share them. */
  readonly limit: number;
  readonly clock: Pick<Clock, 'setTimer' | 'monotonic'>;
  /** Somebody else has to wait: close the tunnel of `holder` as soon as it is idle. Said again while that lasts. */
  readonly makeRoom: (holder: Holder) => void;
  readonly metrics?: Pick<Metrics, 'tunnelWaited'> | undefined;
}

/** A tunnel that somebody has. */
export interface Place {
  /** Something goes through it now: others make room first. */
  used(): void;
  /** It is closed. Idempotent. */
  leave(): void;
}

interface Slot<Holder> {
  readonly holder: Holder;
  enteredAt: number;
  usedAt: number;
  /** How often its tunnel was called in since; whose has not been given up is in use, so others are asked first. */
  calls: number;
}

interface Places<Holder> {
  readonly held: Set<Slot<Holder>>;
  readonly queue: (() => void)[];
}

/** Longer than it takes until one of those who have a tunnel is idle, and shorter than a login may take as a whole. */
const PATIENCE_MS = 20_000;
const RETRY_MS = 5_000;
const CALL_IN_MS = 200;
/** Between two commands of one pass there is less; whoever has not yet logged in is silent for no longer either. */
const SETTLED_MS = 500;
/** Whoever is never silent so long has a pass that lasts, or a host that keeps talking so that its tunnel is not called in. */
const STOOD_MS = 10_000;

/**
 * The tunnels of each endpoint, handed out in the order of arrival. A tunnel is kept open after use, because the next one
 * costs a dozen round trips: so whoever has to wait has the one called in that was used longest ago.
 */
export class TunnelSlots<Holder> {
  readonly #options: TunnelSlotsOptions<Holder>;
  readonly #places = new Map<string, Places<Holder>>();
  #callingIn: Timer | undefined;

  constructor(options: TunnelSlotsOptions<Holder>) {
    this.#options = options;
  }

  get limit(): number {
    return this.#options.limit;
  }

  /** Every endpoint that somebody has a tunnel of, or waits for. */
  state(): readonly TunnelState[] {
    return [...this.#places].map(([endpoint, { held }]) => ({ endpoint, open: held.size, limit: this.limit }));
  }

  /** Waits for a place. Throws `EndpointBusy`, or the reason of `signal`. */
  async enter(endpointId: string, holder: Holder, signal: AbortSignal): Promise<Place> {
    signal.throwIfAborted();
    const places = this.#places.get(endpointId) ?? { held: new Set<Slot<Holder>>(), queue: [] };
    this.#places.set(endpointId, places);
    const { clock, metrics } = this.#options;
    const askedAt = clock.monotonic();
    const slot = { holder, enteredAt: askedAt, usedAt: askedAt, calls: 0 };
    try {
      if (places.held.size < this.limit) places.held.add(slot);
      else await this.#wait(endpointId, places, slot, signal);
    } finally {
      metrics?.tunnelWaited((clock.monotonic() - askedAt) / 1000);
    }
    return {
      used: () => {
        slot.usedAt = this.#options.clock.monotonic();
      },
      leave: () => this.#leave(endpointId, places, slot),
    };
  }

  /** Everybody who has a tunnel. */
  holders(): readonly Holder[] {
    return [...this.#places.values()].flatMap(({ held }) => [...held].map(({ holder }) => holder));
  }

  #wait(endpointId: string, { held, queue }: Places<Holder>, slot: Slot<Holder>, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const over = (): void => {
        patience.cancel();
        unlink();
      };
      const enter = (): void => {
        over();
        slot.enteredAt = this.#options.clock.monotonic();
        slot.usedAt = slot.enteredAt;
        held.add(slot);
        resolve();
      };
      const giveUp = (error: Error): void => {
        over();
        queue.splice(queue.indexOf(enter), 1);
        reject(error);
      };
      const patience = this.#options.clock.setTimer(PATIENCE_MS, () => giveUp(this.#busy(endpointId)));
      const unlink = onAbort(signal, () => giveUp(signal.reason as Error));
      queue.push(enter);
      this.#callIn();
    });
  }

  /** As many as there are waiting. */
  #callIn(): void {
    this.#callingIn?.cancel();
    this.#callingIn = undefined;
    const { clock, makeRoom } = this.#options;
    const crowded = [...this.#places.values()].filter(({ queue }) => queue.length > 0);
    for (const { held, queue } of crowded) {
      const now = clock.monotonic();
      const isSettled = ({ usedAt }: Slot<Holder>): boolean => now - usedAt >= SETTLED_MS;
      const callable = [...held].filter((slot) => isSettled(slot) || now - slot.enteredAt >= STOOD_MS);
      const inOrder = callable.toSorted((a, b) => a.calls - b.calls || a.usedAt - b.usedAt);
      for (const slot of inOrder.slice(0, queue.length)) {
        slot.calls += 1;
        makeRoom(slot.holder);
      }
    }
    if (crowded.length > 0) this.#callingIn = clock.setTimer(CALL_IN_MS, () => this.#callIn());
  }

  #leave(endpointId: string, places: Places<Holder>, slot: Slot<Holder>): void {
    if (!places.held.delete(slot)) return;
    const next = places.queue.shift();
    if (next !== undefined) next();
    else if (places.held.size === 0) this.#places.delete(endpointId);
  }

  #busy(endpointId: string): Error {
    const text = `all ${this.limit} tunnels that plugset takes of endpoint ${endpointId} are in use`;
    return waiting('EndpointBusy', text, RETRY_MS);
  }
}
