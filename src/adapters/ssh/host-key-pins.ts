import { terminal, transient, type ReconcileError } from '../../domain/errors.ts';
import { fingerprintOf, hostKeyPinKey, hostKeyPinSchema, type HostKeyPin } from '../../domain/host-key.ts';
import type { Clock } from '../../ports/clock.ts';
import type { ControllerState } from '../../ports/controller-state.ts';
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
  /** Called once the host has let us in with this key: from now on it is known by it. */
  pin(key: HostKey, signal: AbortSignal): Promise<void>;
}

/** The host keys that are believed, one small document per host. */
export class HostKeyPins {
  readonly #state: () => ControllerState;
  readonly #clock: Pick<Clock, 'now'>;

  constructor(state: () => ControllerState, clock: Pick<Clock, 'now'>) {
    this.#state = state;
    this.#clock = clock;
  }

  async trustIn(policy: HostKeyPolicy, signal: AbortSignal): Promise<Trust> {
    const pin = await this.#find(policy.name, signal);
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
      accepts: (key) => isOpen || expected.some((one) => isSameKey(one, key)),
      refusal: (key) => refusalOf(policy.name, key, expected, vouched.length > 0),
      pin: async (key, until) => {
        if (pin?.verified === isVerified && pin.keys.some((one) => isSameKey(one, key))) return;
        await this.#write(policy.name, key, isVerified, until);
      },
    };
  }

  /** `undefined` when nothing is pinned under that name. */
  async #find(name: string, signal: AbortSignal): Promise<HostKeyPin | undefined> {
    const document = await this.#state().get(hostKeyPinKey(name), signal);
    if (document === undefined) return undefined;
    const { data } = hostKeyPinSchema.safeParse(document.value);
    if (data !== undefined) return data;
    // Taking it for no pin at all would let anybody in.
    throw terminal('HostKeyMismatch', `the pinned key of ${name} cannot be read; ${forgetting(name)}`);
  }

  async #write(name: string, key: HostKey, verified: boolean, signal: AbortSignal): Promise<void> {
    const before = await this.#state().get(hostKeyPinKey(name), signal);
    const pin: HostKeyPin = { name, keys: [key], verified, pinnedAtMs: this.#clock.now() };
    const written = await this.#state().compareAndSwap(hostKeyPinKey(name), before?.version, pin, signal);
    if (written === undefined)
      throw transient('StoreUnavailable', `the key of ${name} was pinned by somebody else at the same time`);
  }
}

function refusalOf(name: string, key: HostKey, expected: readonly HostKey[], isVouched: boolean): ReconcileError {
  const shown = `${key.type} ${fingerprintOf(key)}`;
  if (expected.length === 0)
    return terminal('HostKeyUnknown', `${name} is met for the first time and nothing vouches for its key ${shown}`);
  const known = expected.map((one) => `${one.type} ${fingerprintOf(one)}`).join(', ');
  const remedy = isVouched ? 'correct what vouches for it' : forgetting(name);
  return terminal(
    'HostKeyMismatch',
    `${name} shows the key ${shown} and is known by ${known}; if that is right: ${remedy}`,
  );
}

/** As it is typed in a shell, to which the brackets before a port are a pattern. */
function forgetting(name: string): string {
  return `plugset hostkey forget ${name.startsWith('[') ? `'${name}'` : name}`;
}
