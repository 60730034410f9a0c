import { terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import { fingerprintOf, hostKeyPinKey, hostKeyPinSchema, type HostKeyPin } from '../../domain/host-key.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
import { traced, type PathTrace } from '../../ports/path-trace.ts';
import type { HostKey, HostKeyPolicy } from '../../ports/ssh-endpoint.ts';
import { isSameKey } from './host-key.ts';

/** What one connection goes by. Everything is known beforehand: ssh2 takes the promise of a verifier for a yes. */
export interface Trust {
  /** Those that are expected, best first; empty on a first contact that is taken on trust. */
  readonly expected: readonly HostKey[];
  readonly isVerified: boolean;
  /** For people: what that is based on. */
  readonly basis: string;
  accepts(key: HostKey): boolean;
  /** Why a key was not accepted. */
  refusal(key: HostKey): ReconcileError;
  /** Called once the host has let us in with this key: from now on it is known by it, unless this is only a look. */
  pin(key: HostKey, signal: AbortSignal): Promise<void>;
}

export interface HostKeyPinsOptions {
  /** Nothing is pinned. A command that only looks changes nothing: whom a host is known by is left to who works on it. */
  readonly isLookOnly?: boolean | undefined;
  readonly trace?: PathTrace | undefined;
}

/** The host keys that are believed, one small document per host. */
export class HostKeyPins {
  readonly #state: () => ControllerState;
  readonly #clock: Pick<Clock, 'now'>;
  readonly #options: HostKeyPinsOptions;

  constructor(state: () => ControllerState, clock: Pick<Clock, 'now'>, options: HostKeyPinsOptions = {}) {
    this.#state = state;
    this.#clock = clock;
    this.#options = options;
  }

  async trustIn(policy: HostKeyPolicy, signal: AbortSignal): Promise<Trust> {
    const { pin: found, version } = await this.#find(policy.name, signal);
    const pin = isBelieved(found, policy) ? found : undefined;
    const revoked = (await policy.revoked?.(signal)) ?? [];
    const isRevoked = (key: HostKey): boolean => revoked.some((one) => one.key === key.key);
    const vouched =
      policy.ask === 'always' || pin === undefined ? await policy.vouchedFor(signal) : ([] as readonly HostKey[]);
    const expected = vouched.length > 0 ? vouched : (pin?.keys ?? []);
    const isOpen = expected.length === 0 && policy.firstContact === 'tofu';
    const isVerified = vouched.length > 0 || pin?.verified === true;
    const ofPin = pin === undefined ? 'nobody, at first contact' : 'the pin of an earlier contact';
    return {
      expected,
      isVerified,
      basis: vouched.length > 0 ? policy.voucher : ofPin,
      accepts: (key) => !isRevoked(key) && (isOpen || expected.some((one) => isSameKey(one, key))),
      refusal: (key) =>
        isRevoked(key) ? revocation(policy, key) : refusalOf(policy, key, expected, vouched.length > 0),
      pin: async (key, until) => {
        const { name, address } = policy;
        const isKnown = pin?.verified === isVerified && pin.keys.some((one) => isSameKey(one, key));
        if (isKnown && pin.address === address) return;
        const known = { name, keys: [key], verified: isVerified, ...(address === undefined ? {} : { address }) };
        await this.#pin(known, version, until);
      },
    };
  }

  /** Nothing in it when nothing is pinned under that name. */
  async #find(name: string, signal: AbortSignal): Promise<Found> {
    const document = await this.#state().get(hostKeyPinKey(name), signal);
    if (document === undefined) return {};
    const { data } = hostKeyPinSchema.safeParse(document.value);
    if (data !== undefined) return { pin: data, version: document.version };
    // Taking it for no pin at all would let anybody in.
    throw terminal('HostKeyMismatch', `the pinned key of ${name} cannot be read; ${forgetting(name)}`);
  }

  #pin(pin: Omit<HostKeyPin, 'pinnedAtMs'>, before: string | undefined, signal: AbortSignal): Promise<void> {
    const { isLookOnly = false, trace } = this.#options;
    return traced(trace, 'pin', async (saw) => {
      const { name, verified } = pin;
      const [key] = pin.keys.map((one) => `${one.type} ${fingerprintOf(one)}`);
      saw({ host: name, key, verified, pinned: isLookOnly ? 'by the next pass, and not by this look' : 'now' });
      if (!isLookOnly) await this.#write(pin, before, signal);
    });
  }

  /** In the place of what the login went by, and of nothing else: two who meet a host at once may have been shown two keys. */
  async #write(pin: Omit<HostKeyPin, 'pinnedAtMs'>, before: string | undefined, signal: AbortSignal): Promise<void> {
    const { name } = pin;
    const dated: HostKeyPin = { ...pin, pinnedAtMs: this.#clock.now() };
    const written = await this.#state().compareAndSwap(hostKeyPinKey(name), before, dated, signal);
    if (written === undefined)
      throw transient('StoreUnavailable', `the key of ${name} was pinned by somebody else at the same time`);
  }
}

/** Under `strict` a pin that nobody vouched for counts for nothing: whoever may take hosts on trust has made it for himself. */
function isBelieved(pin: HostKeyPin | undefined, { firstContact }: HostKeyPolicy): boolean {
  return pin?.verified === true || firstContact === 'tofu';
}

/** A pin, and the version of its document. */
interface Found {
  readonly pin?: HostKeyPin;
  readonly version?: string;
}

function revocation({ name, voucher }: HostKeyPolicy, key: HostKey): ReconcileError {
  const shown = `${key.type} ${fingerprintOf(key)}`;
  return terminal('HostKeyMismatch', `${name} shows the key ${shown}, which is revoked (${voucher}); give it another`);
}

function refusalOf(
  { name, ask, voucher }: HostKeyPolicy,
  key: HostKey,
  expected: readonly HostKey[],
  isVouched: boolean,
): ReconcileError {
  const shown = `${key.type} ${fingerprintOf(key)}`;
  if (expected.length === 0)
    return terminal('HostKeyUnknown', `${name} is met for the first time and nothing vouches for its key ${shown}`);
  const known = expected.map((one) => `${one.type} ${fingerprintOf(one)}`).join(', ');
  // What is asked before every connection goes above a pin; what is asked at first contact only, a pin goes above.
  const correcting =
    ask === 'always' ? `correct ${voucher}, which vouches for it` : `plugset hostkey pin ${quoted(name)} KEY`;
  const remedy = isVouched ? correcting : forgetting(name);
  return terminal(
    'HostKeyMismatch',
    `${name} shows the key ${shown} and is known by ${known}; if that is right: ${remedy}`,
  );
}

function forgetting(name: string): string {
  return `plugset hostkey forget ${quoted(name)}`;
}

/** As it is typed in a shell, to which the brackets before a port are a pattern. */
function quoted(name: string): string {
  return name.startsWith('[') ? `'${name}'` : name;
}
