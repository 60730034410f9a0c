import type { Reason } from './reason.ts';

/**
 * What a failure means for the queue, decided once, by the adapter that saw it, from codes and never from message text.
 *
 * - `transient` may pass by itself: retried with backoff
 * - `waiting` something has to happen first: looked at again after `retryAfterMs`, or when an event comes
 * - `terminal` only a new spec, new content or a person helps: Stalled, re-probed slowly
 * - `unknown` the transport broke between request and result: observe before anything else
 * - `aborted` shutdown or lost lease: nothing is concluded, nothing is written
 */
export type ErrorClass = 'transient' | 'waiting' | 'terminal' | 'unknown' | 'aborted';

export interface ReconcileErrorOptions {
  /** The error underneath; kept for the log, never shown in a condition. */
  readonly cause?: unknown;
  /** Only for `waiting`: when to look again, in milliseconds from now. */
  readonly retryAfterMs?: number;
}

/** The only error type that crosses a port. `message` is for people: what happened, to what, what to do; no secret. */
export class ReconcileError extends Error {
  override readonly name = 'ReconcileError';
  readonly class: ErrorClass;
  readonly reason: Reason;
  readonly retryAfterMs: number | undefined;

  constructor(errorClass: ErrorClass, reason: Reason, message: string, options: ReconcileErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.class = errorClass;
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/**
 * What nobody classified where it was thrown: a fault of plugset itself, which is tried again as if it may pass. `cause` is
 * what was thrown; its text may hold anything, a secret included, so it goes to the log only.
 */
export class Fault extends ReconcileError {
  constructor(thrown: unknown) {
    const message = 'plugset hit an unexpected fault; the log line of this pass has the stack';
    super('transient', 'Internal', message, { cause: thrown });
  }
}

export function transient(reason: Reason, message: string, cause?: unknown): ReconcileError {
  return new ReconcileError('transient', reason, message, { cause });
}

/** `retryAfterMs` is the fallback for a missed event, not the expected wait. */
export function waiting(reason: Reason, message: string, retryAfterMs: number, cause?: unknown): ReconcileError {
  return new ReconcileError('waiting', reason, message, { cause, retryAfterMs });
}

export function terminal(reason: Reason, message: string, cause?: unknown): ReconcileError {
  return new ReconcileError('terminal', reason, message, { cause });
}

export function unknownOutcome(message: string, cause?: unknown): ReconcileError {
  return new ReconcileError('unknown', 'OutcomeUnknown', message, { cause });
}

export function aborted(message: string, cause?: unknown): ReconcileError {
  return new ReconcileError('aborted', 'NotLeader', message, { cause });
}

/** Any thrown value as a ReconcileError; what no adapter classified is our own bug, a {@link Fault}. */
export function classifyError(thrown: unknown): ReconcileError {
  if (thrown instanceof ReconcileError) return thrown;
  return new Fault(thrown);
}
