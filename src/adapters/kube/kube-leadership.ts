import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import { transient } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { isName } from '../../domain/name.ts';
import { stateKey } from '../../domain/state-key.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
import type { Leadership, LeaseHolder, Term } from '../../ports/leadership.ts';
import { LeaseTerm, type LeaseTimes } from '../../ports/lease-term.ts';
import type { Logger } from '../../ports/logger.ts';
import { winLease, type LeaseAnswer } from '../../ports/win-lease.ts';
import { FenceFloor } from './fence-floor.ts';
import type { KubeClient } from './kube-client.ts';
import {
  AUTHORITY,
  authorityOn,
  epochOf,
  isSameTurn,
  KubeLease,
  LAST_HOLDER,
  LEAST_EPOCH,
  type Lease,
  type LeaseSpec,
} from './kube-lease.ts';
import { answered } from './store-answer.ts';

export interface KubeLeadershipOptions {
  /**
   * Best one of its own: a renewal that waits behind status writes for a free connection comes late. Whoever opened it
   * closes it, after the term was released.
   */
  readonly client: Pick<KubeClient, 'call'>;
  /** Where the Lease is: the controller's own namespace. */
  readonly namespace: string;
  /** Remembers what the fences of this cluster say this controller is, from the first turn on, and how far they have come. */
  readonly state: ControllerState;
  /** What they are to say instead, in the grammar of names. */
  readonly authority?: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Who holds the lease, for people; a random part is added, so that no two processes have one name. Default: host and process id. */
  readonly holder?: string;
  /** A lease that is not renewed can be taken over after this. Default 35 s. */
  readonly leaseMs?: number | undefined;
}

/** As Flux has them: 35, 30 and 5 s. */
const LEASE_MS = 35_000;

/** Three attempts fit into the patience, so that one slow answer of an API server that is busy ends nothing. */
function timesOf(leaseMs: number): LeaseTimes {
  const patienceMs = (leaseMs * 6) / 7;
  return { leaseMs, patienceMs, renewMs: leaseMs / 7, attemptMs: patienceMs / 3 };
}

/** Whom the fences of this cluster name. */
export const AUTHORITY_KEY = stateKey('fleet', 'authority');

/** The API server takes no larger one. Where somebody has written it, the count goes on in a new epoch. */
const LAST_TRANSITION = 2 ** 31 - 1;

/** Of one renewal; each is lost only against somebody who writes to the Lease in that moment. */
const ROUNDS = 3;

/**
 * A Lease of coordination.k8s.io. No two clocks are compared: whoever waits measures on its own how long the Lease has not
 * changed. The fence's epoch is the creation of the Lease, so that one that was deleted and made anew begins a new epoch;
 * its number is that of the transitions. {@link FenceFloor} keeps both from ever going back.
 */
export class KubeLeadership implements Leadership {
  readonly #options: KubeLeadershipOptions;
  readonly #holder: string;
  readonly #times: LeaseTimes;
  readonly #lease: KubeLease;
  readonly #floor: FenceFloor;
  /** What the Lease said when that was seen to change last, and when that was, on the monotonic clock. */
  #seen: { readonly said: string; readonly atMs: number } | undefined;

  constructor(options: KubeLeadershipOptions) {
    this.#options = options;
    this.#holder = `${options.holder ?? `${hostname()}-${process.pid}`}-${randomUUID().slice(0, 8)}`;
    this.#times = timesOf(options.leaseMs ?? LEASE_MS);
    const { client, namespace, state } = options;
    this.#lease = new KubeLease({ client, namespace, timeoutMs: this.#times.attemptMs });
    this.#floor = new FenceFloor(state);
  }

  acquire(
    signal: AbortSignal,
    onWaiting?: (holder: string) => void,
    onUnable?: (why: string | undefined) => void,
  ): Promise<Term> {
    const { clock, logger } = this.#options;
    const ask = (until: AbortSignal): Promise<LeaseAnswer<Term>> => this.#ask(until);
    return winLease({ clock, logger, renewMs: this.#times.renewMs, ask }, signal, onWaiting, onUnable);
  }

  /** Whom the fences of this cluster name; `undefined`: nobody has led here. Needs no lease. */
  async authority(signal: AbortSignal): Promise<string | undefined> {
    if (this.#options.authority !== undefined) return this.#options.authority;
    return (await this.#known(signal)) ?? authorityOn(await answered(this.#lease.read(signal), signal));
  }

  async lastHolder(signal: AbortSignal): Promise<LeaseHolder | undefined> {
    const lease = await answered(this.#lease.read(signal), signal);
    const name = lease?.metadata.annotations?.[LAST_HOLDER];
    if (lease === undefined || name === undefined) return undefined;
    const { holderIdentity, leaseDurationSeconds = 0 } = lease.spec;
    // Whatever else edits a Lease may leave out any of it.
    const { acquireTime = lease.metadata.creationTimestamp, renewTime = acquireTime } = lease.spec;
    const turn = { name, since: new Date(acquireTime).toISOString() };
    const heldMs = holderIdentity === name ? leaseDurationSeconds * 1000 : 0;
    const untilMs = Date.parse(renewTime) + heldMs;
    if (this.#options.clock.now() < untilMs && heldMs > 0) return { ...turn, isLeading: true };
    return { ...turn, isLeading: false, until: new Date(untilMs).toISOString() };
  }

  async #ask(signal: AbortSignal): Promise<LeaseAnswer<Term>> {
    const askedAtMs = this.#options.clock.monotonic();
    const found = await this.#lease.read(signal);
    if (found !== undefined && !this.#isFree(found)) return { kind: 'held', holder: found.spec.holderIdentity ?? null };
    const { authority = await this.#agreed(found, signal) } = this.#options;
    const taken = await this.#take(found, authority, signal);
    if (taken === undefined) return { kind: 'held', holder: null };
    const fence: Fence = { authority, epoch: epochOf(taken), n: taken.spec.leaseTransitions ?? 0 };
    const term = this.#term(taken, fence, askedAtMs);
    let isNewest = false;
    try {
      isNewest = await this.#floor.raise(fence, signal);
    } finally {
      // Nobody will ever hear of this turn: others need not wait for it to run out.
      if (!isNewest) await term.release();
    }
    return isNewest ? { kind: 'won', term } : { kind: 'held', holder: null };
  }

  async #known(signal: AbortSignal): Promise<string | undefined> {
    const document = await this.#options.state.get(AUTHORITY_KEY, signal);
    if (document === undefined) return undefined;
    if (typeof document.value === 'string' && isName(document.value)) return document.value;
    throw transient('StoreUnavailable', `the controller state ${AUTHORITY_KEY} cannot be read; remove it`);
  }

  /** What all who lead here are called. It is no id of some object, so that it comes along when the objects are restored elsewhere. */
  async #agreed(found: Lease | undefined, signal: AbortSignal): Promise<string> {
    const known = await this.#known(signal);
    if (known !== undefined) return known;
    const made = authorityOn(found) ?? `kube-${randomUUID()}`;
    const isOurs = (await this.#options.state.compareAndSwap(AUTHORITY_KEY, undefined, made, signal)) !== undefined;
    const agreed = isOurs ? made : await this.#known(signal);
    if (agreed === undefined)
      throw transient('StoreUnavailable', 'the authority of this cluster was there, and is not');
    return agreed;
  }

  /** Of this process itself is what a term that it believes lost has left. A change of labels is no sign of life. */
  #isFree({ metadata, spec }: Lease): boolean {
    const { holderIdentity = '', leaseDurationSeconds = 0 } = spec;
    if (holderIdentity === '' || holderIdentity === this.#holder) return true;
    const nowMs = this.#options.clock.monotonic();
    const said = JSON.stringify([metadata.uid, spec]);
    if (this.#seen?.said !== said) {
      this.#seen = { said, atMs: nowMs };
      return false;
    }
    return nowMs - this.#seen.atMs > Math.max(leaseDurationSeconds * 1000, this.#times.leaseMs);
  }

  /** `undefined`: somebody was faster. */
  async #take(found: Lease | undefined, authority: string, signal: AbortSignal): Promise<Lease | undefined> {
    const floor = await this.#floor.current(signal);
    const epoch = found === undefined ? undefined : epochOf(found);
    const isBehind = floor !== undefined && (epoch === undefined || epoch < floor.epoch);
    const next = Math.max(
      (found?.spec.leaseTransitions ?? 0) + 1,
      this.#turnOfNow(),
      floor?.epoch === epoch ? (floor?.n ?? 0) + 1 : 0,
    );
    const isUsedUp = next > LAST_TRANSITION;
    const now = this.#timestamp();
    const leaseTransitions = isUsedUp ? this.#turnOfNow() : next;
    const spec: LeaseSpec = { ...found?.spec, ...this.#claim(now), acquireTime: now, leaseTransitions };
    const leastEpoch = Math.max(epoch ?? 0, floor?.epoch ?? 0) + 1;
    const marks = {
      [LAST_HOLDER]: this.#holder,
      ...(this.#options.authority === undefined && { [AUTHORITY]: authority }),
      ...((isBehind || isUsedUp) && { [LEAST_EPOCH]: String(leastEpoch) }),
    };
    return this.#lease.write(found, marks, spec, signal);
  }

  #claim(renewTime: string): LeaseSpec {
    const leaseDurationSeconds = Math.ceil(this.#times.leaseMs / 1000);
    return { holderIdentity: this.#holder, leaseDurationSeconds, renewTime };
  }

  /**
   * A cluster restored from a backup must not hand out a turn again, and no leader that fails is back within two seconds
   * each time. The field has 32 bits, which numbers of seconds outgrow in 2038; these do in 2106.
   */
  #turnOfNow(): number {
    return Math.floor(this.#options.clock.now() / 2_000);
  }

  #term(taken: Lease, fence: Fence, askedAtMs: number): Term {
    const { clock, logger } = this.#options;
    let last: Lease | undefined = taken;
    const renew = async (leaseMs: number, signal: AbortSignal): Promise<boolean> => {
      for (let round = 0; round < ROUNDS; round++) {
        // What was written by an attempt that was cut off is only known to the server.
        last ??= await this.#lease.read(signal);
        if (last === undefined || !isSameTurn(last, taken)) return false;
        const known = last;
        last = undefined;
        const renewed = { ...known.spec, ...this.#claim(this.#timestamp()) };
        const spec = leaseMs > 0 ? renewed : { ...renewed, holderIdentity: '' };
        last = await this.#lease.write(known, {}, spec, signal);
        if (last !== undefined) return true;
      }
      throw transient('StoreUnavailable', 'the Lease of the controller is written by somebody else all the time');
    };
    return new LeaseTerm({ clock, logger, times: this.#times, fence, askedAtMs, renew });
  }

  /** With microseconds, which a Lease has its times in. */
  #timestamp(): string {
    return new Date(this.#options.clock.now()).toISOString().replace('Z', '000Z');
  }
}
