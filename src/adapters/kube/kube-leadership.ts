import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import { transient } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { stateKey } from '../../domain/state-key.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
import type { Leadership, LeaseHolder, Term } from '../../ports/leadership.ts';
import { LeaseTerm, type LeaseTimes } from '../../ports/lease-term.ts';
import type { Logger } from '../../ports/logger.ts';
import { winLease, type LeaseAnswer } from '../../ports/win-lease.ts';
import type { KubeClient, KubeMethod } from './kube-client.ts';
import type { KubeObject } from './kube-object.ts';
import { KubeRefusal } from './kube-refusal.ts';

export interface KubeLeadershipOptions {
  /** Shared; whoever opened it closes it, after the term was released. */
  readonly client: KubeClient;
  /** Where the Lease is: the controller's own namespace. */
  readonly namespace: string;
  /** Remembers what the fences of this cluster say this controller is, from the first turn on. */
  readonly state: ControllerState;
  /** What they are to say instead, in the grammar of names. */
  readonly authority?: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Who holds the lease, for people; unique for each process. Default: host, process id and a random part. */
  readonly holder?: string;
  /** Default {@link TIMES}. */
  readonly times?: LeaseTimes;
}

/** Those of Flux. Three attempts fit into the patience, so that one slow answer of an API server that is busy ends nothing. */
const TIMES: LeaseTimes = { leaseMs: 35_000, patienceMs: 30_000, renewMs: 5_000, attemptMs: 10_000 };

const AUTHORITY_KEY = stateKey('fleet', 'authority');
const LEASE_NAME = 'plugset';
/** A Lease that is given back names nobody. */
const LAST_HOLDER = 'plugset.dev/last-holder';

interface LeaseSpec {
  readonly holderIdentity?: string;
  readonly leaseDurationSeconds?: number;
  readonly acquireTime?: string;
  readonly renewTime?: string;
  readonly leaseTransitions?: number;
}

interface Lease extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly creationTimestamp: string };
  readonly spec: LeaseSpec;
}

/**
 * A Lease of coordination.k8s.io. No two clocks are compared: whoever waits measures on its own how long the Lease has not
 * changed. The fence's epoch is the creation of the Lease, so that one that was deleted and made anew begins a new epoch.
 */
export class KubeLeadership implements Leadership {
  readonly #options: KubeLeadershipOptions;
  readonly #holder: string;
  readonly #times: LeaseTimes;
  /** The Lease as it was when it was seen to change last, and when that was, on the monotonic clock. */
  #seen: { readonly version: string; readonly atMs: number } | undefined;

  constructor(options: KubeLeadershipOptions) {
    this.#options = options;
    this.#holder = options.holder ?? `${hostname()}-${process.pid}-${randomUUID().slice(0, 8)}`;
    this.#times = options.times ?? TIMES;
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
    const known = await this.#options.state.get(AUTHORITY_KEY, signal);
    return known === undefined ? undefined : String(known.value);
  }

  async lastHolder(signal: AbortSignal): Promise<LeaseHolder | undefined> {
    const lease = await this.#read(signal).catch((thrown: unknown) => {
      if (signal.aborted) throw thrown;
      throw transient('StoreUnavailable', 'the Lease of the controller cannot be read', thrown);
    });
    const name = lease?.metadata.annotations?.[LAST_HOLDER];
    if (lease === undefined || name === undefined) return undefined;
    const { holderIdentity, acquireTime, renewTime, leaseDurationSeconds = 0 } = lease.spec;
    const turn = { name, since: new Date(acquireTime ?? 0).toISOString() };
    const heldMs = holderIdentity === name ? leaseDurationSeconds * 1000 : 0;
    const untilMs = Date.parse(renewTime ?? '') + heldMs;
    if (this.#options.clock.now() < untilMs && heldMs > 0) return { ...turn, isLeading: true };
    return { ...turn, isLeading: false, until: new Date(untilMs).toISOString() };
  }

  async #ask(signal: AbortSignal): Promise<LeaseAnswer<Term>> {
    const askedAtMs = this.#options.clock.monotonic();
    const found = await this.#read(signal);
    if (found !== undefined && !this.#isFree(found)) return { kind: 'held', holder: found.spec.holderIdentity ?? null };
    const authority = (await this.authority(signal)) ?? (await this.#newAuthority(signal));
    const taken = await this.#take(found, signal);
    if (taken === undefined) return { kind: 'held', holder: null };
    return { kind: 'won', term: this.#term(taken, authority, askedAtMs) };
  }

  /** It is a document and not the id of some object, so that it comes along when the objects are restored elsewhere. */
  async #newAuthority(signal: AbortSignal): Promise<string> {
    const made = `kube-${randomUUID()}`;
    const isOurs = (await this.#options.state.compareAndSwap(AUTHORITY_KEY, undefined, made, signal)) !== undefined;
    const known = isOurs ? made : await this.authority(signal);
    if (known === undefined) throw transient('StoreUnavailable', 'the authority of this cluster was there, and is not');
    return known;
  }

  /** Of this process itself is what a term that it believes lost has left. */
  #isFree({ metadata, spec }: Lease): boolean {
    const { holderIdentity = '', leaseDurationSeconds = 0 } = spec;
    if (holderIdentity === '' || holderIdentity === this.#holder) return true;
    const nowMs = this.#options.clock.monotonic();
    if (this.#seen?.version !== metadata.resourceVersion) {
      this.#seen = { version: metadata.resourceVersion, atMs: nowMs };
      return false;
    }
    return nowMs - this.#seen.atMs > Math.max(leaseDurationSeconds * 1000, this.#times.leaseMs);
  }

  /** `undefined`: somebody was faster. */
  async #take(found: Lease | undefined, signal: AbortSignal): Promise<Lease | undefined> {
    const now = this.#timestamp();
    const spec: LeaseSpec = {
      holderIdentity: this.#holder,
      leaseDurationSeconds: Math.ceil(this.#times.leaseMs / 1000),
      acquireTime: now,
      renewTime: now,
      leaseTransitions: Math.max((found?.spec.leaseTransitions ?? 0) + 1, this.#turnOfNow()),
    };
    return unlessRefused([409], this.#write(found, spec, signal));
  }

  /**
   * A cluster restored from a backup must not hand out a turn again, and nobody takes turns by the minute. The field has
   * 32 bits, so it is no number of seconds.
   */
  #turnOfNow(): number {
    return Math.floor(this.#options.clock.now() / 60_000);
  }

  #term(taken: Lease, authority: string, askedAtMs: number): Term {
    const { clock, logger } = this.#options;
    const epoch = Date.parse(taken.metadata.creationTimestamp);
    const fence: Fence = { authority, epoch, n: taken.spec.leaseTransitions ?? 0 };
    let last: Lease | undefined = taken;
    const renew = async (leaseMs: number, signal: AbortSignal): Promise<boolean> => {
      // What was written by an attempt that was cut off is only known to the server.
      last ??= await this.#read(signal);
      if (last === undefined || !isTurnOf(last, taken)) return false;
      const known = last;
      last = undefined;
      const renewed = { ...known.spec, renewTime: this.#timestamp() };
      const spec = leaseMs > 0 ? renewed : { ...renewed, holderIdentity: '' };
      last = await unlessRefused([404, 409], this.#write(known, spec, signal));
      return last !== undefined || renew(leaseMs, signal);
    };
    return new LeaseTerm({ clock, logger, times: this.#times, fence, askedAtMs, renew });
  }

  #read(signal: AbortSignal): Promise<Lease | undefined> {
    return unlessRefused([404], this.#call('GET', `/${LEASE_NAME}`, undefined, signal));
  }

  #write(found: Lease | undefined, spec: LeaseSpec, signal: AbortSignal): Promise<Lease> {
    const version = found && { resourceVersion: found.metadata.resourceVersion, uid: found.metadata.uid };
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name: LEASE_NAME, ...version, annotations: { [LAST_HOLDER]: this.#holder } },
      spec,
    };
    return found === undefined
      ? this.#call('POST', '', body, signal)
      : this.#call('PUT', `/${LEASE_NAME}`, body, signal);
  }

  #call(method: KubeMethod, rest: string, body: unknown, signal: AbortSignal): Promise<Lease> {
    const { client, namespace } = this.#options;
    const path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/leases${rest}`;
    return client.call<Lease>({ method, path, body, timeoutMs: this.#times.attemptMs }, signal);
  }

  /** With microseconds, which a Lease has its times in. */
  #timestamp(): string {
    return new Date(this.#options.clock.now()).toISOString().replace('Z', '000Z');
  }
}

function isTurnOf(lease: Lease, taken: Lease): boolean {
  return (
    lease.metadata.uid === taken.metadata.uid &&
    lease.spec.holderIdentity === taken.spec.holderIdentity &&
    lease.spec.leaseTransitions === taken.spec.leaseTransitions
  );
}

async function unlessRefused<T>(statuses: readonly number[], work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (thrown) {
    if (thrown instanceof KubeRefusal && statuses.includes(thrown.status)) return undefined;
    throw thrown;
  }
}
