import { ReconcileError, transient, waiting } from '../../domain/errors.ts';

/**
 * What the API server answers. Whatever kept it from answering, the store is what cannot be used; for how long, if that was
 * said. What says that plugset was told wrong how to reach it is thrown on.
 */
export async function answered<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await work;
  } catch (thrown) {
    if (signal.aborted || !(thrown instanceof ReconcileError)) throw thrown;
    const { class: errorClass, reason, message, retryAfterMs } = thrown;
    if (errorClass === 'aborted' || reason === 'InvalidSpec') throw thrown;
    if (retryAfterMs !== undefined) throw waiting('StoreUnavailable', message, retryAfterMs, thrown);
    throw transient('StoreUnavailable', message, thrown);
  }
}
