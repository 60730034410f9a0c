import { ReconcileError } from '../domain/errors.ts';
import type { Clock, Timer } from './clock.ts';

/** Calls `listener` once when `signal` aborts, at once if it has already. Returns the way to take it back. */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  if (signal.aborted) {
    listener();
    return () => undefined;
  }
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/** Resolves when `signal` aborts. */
export function whenAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => void onAbort(signal, resolve));
}

/**
 * `work`, or a rejection with the reason of `signal` as soon as that aborts. The work goes on: for others who wait for
 * it too, or because nothing can end it.
 */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const unlink = onAbort(signal, () => reject(signal.reason as Error));
    void work.then(resolve, reject).finally(unlink);
  });
}

/**
 * Does `work` with a signal that aborts with the first of the two. Not `AbortSignal.any`: a signal that lives on keeps something
 * of each that was ever made of it, and those of connections live for weeks.
 */
export async function untilEither<T>(
  one: AbortSignal,
  other: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const either = new AbortController();
  const unlink = [one, other].map((signal) => onAbort(signal, () => either.abort(signal.reason)));
  try {
    return await work(either.signal);
  } finally {
    for (const undo of unlink) undo();
  }
}

/**
 * Whether `thrown` says no more than that a signal aborted. Adapters throw class `aborted`, Node throws its AbortError,
 * and `throwIfAborted` and `Clock.sleep` throw the reason itself.
 */
export function isAbort(thrown: unknown, signal: AbortSignal): boolean {
  if (!signal.aborted) return false;
  if (thrown === signal.reason) return true;
  if (thrown instanceof ReconcileError) return thrown.class === 'aborted';
  return thrown instanceof Error && thrown.name === 'AbortError';
}

/** Whether `work` settles within `ms` on the clock. It goes on either way: whoever asks has aborted it or will. */
export async function settlesWithin(
  work: Promise<unknown>,
  ms: number,
  clock: Pick<Clock, 'setTimer'>,
): Promise<boolean> {
  let timer: Timer | undefined;
  const tooLate = new Promise<false>((resolve) => {
    timer = clock.setTimer(ms, () => resolve(false));
  });
  const settled = work.then(
    () => true,
    () => true,
  );
  const inTime = await Promise.race([settled, tooLate]);
  timer?.cancel();
  return inTime;
}
