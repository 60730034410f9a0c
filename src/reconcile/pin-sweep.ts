import { HOST_KEYS_FOLDER, hostKeyPinSchema, type HostKeyPin } from '../domain/host-key.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { Logger } from '../ports/logger.ts';
import type { TargetFate, TargetProvider } from '../ports/workspace-target.ts';

export interface PinSweepOptions {
  readonly state: ControllerState;
  readonly providers: readonly Pick<TargetProvider, 'fatesOf'>[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What nobody knows of for so long is gone, and not in an account or a region that somebody looked away from for a while. */
const MISSING_FOR_MS = 30 * 86_400_000;

/** A document that can be read, and says where its host is found. */
interface Pinned {
  readonly key: string;
  readonly version: string;
  readonly pin: HostKeyPin;
  readonly address: string;
}

/**
 * Forgets the keys of hosts that are gone for good. Only of those whose address is never given to another: any other host that
 * comes back is to be known by the key that it had.
 */
export async function sweepPins(options: PinSweepOptions, signal: AbortSignal): Promise<void> {
  const { state } = options;
  const pinned = await readPins(state, signal);
  const fates = await fatesOf(pinned, options, signal);
  for (const { key, version, pin, address } of pinned) {
    const { missingSinceMs, ...seen } = pin;
    const fate = fates.get(address);
    if (fate === 'ended') await state.remove(key, version, signal);
    else if (fate === 'there' && missingSinceMs !== undefined) await state.compareAndSwap(key, version, seen, signal);
    else if (fate === 'missing') await miss({ key, version, pin }, options, signal);
  }
}

/** Whoever has written a document since finds it as he left it. */
async function miss(
  { key, version, pin }: Pick<Pinned, 'key' | 'version' | 'pin'>,
  { state, clock }: PinSweepOptions,
  signal: AbortSignal,
): Promise<void> {
  const { missingSinceMs } = pin;
  if (missingSinceMs === undefined) {
    await state.compareAndSwap(key, version, { ...pin, missingSinceMs: clock.now() }, signal);
  } else if (clock.now() - missingSinceMs > MISSING_FOR_MS) {
    await state.remove(key, version, signal);
  }
}

async function readPins(state: ControllerState, signal: AbortSignal): Promise<readonly Pinned[]> {
  const pinned: Pinned[] = [];
  for (const key of await state.list(HOST_KEYS_FOLDER, signal)) {
    const document = await state.get(key, signal);
    const pin = hostKeyPinSchema.safeParse(document?.value).data;
    if (document === undefined || pin?.address === undefined) continue;
    pinned.push({ key, version: document.version, pin, address: pin.address });
  }
  return pinned;
}

/** Of those that somebody could look for. */
async function fatesOf(
  pinned: readonly Pinned[],
  { providers, logger }: PinSweepOptions,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, TargetFate>> {
  const addresses = pinned.map(({ address }) => address);
  const fates = new Map<string, TargetFate>();
  for (const provider of addresses.length === 0 ? [] : providers) {
    try {
      for (const [address, fate] of (await provider.fatesOf?.(addresses, signal)) ?? []) fates.set(address, fate);
    } catch (error) {
      signal.throwIfAborted();
      // Passes over the same targets say so where people look.
      logger.debug('nobody could tell whether hosts with a pinned key are still there', { error });
    }
  }
  return fates;
}
