import { ConfigError } from '../config.ts';
import { ADVICE } from '../domain/advice.ts';
import { ReconcileError } from '../domain/errors.ts';
import type { Reason } from '../domain/reason.ts';
import { printable } from '../domain/text.ts';
import { CliError, type CliContext } from './context.ts';
import { paintFor } from './style.ts';

/** `error: what happened`, and below it what to do about it. */
export function printError(context: CliContext, error: unknown): void {
  const paint = paintFor(context.stderr);
  context.stderr.write(`${paint('red', 'error:')} ${describeError(error)}\n`);
}

export function printWarning(context: CliContext, message: string): void {
  const paint = paintFor(context.stderr);
  context.stderr.write(`${paint('yellow', 'warning:')} ${printable(message)}\n`);
}

function describeError(error: unknown): string {
  if (error instanceof CliError || error instanceof ConfigError) return error.message;
  if (!(error instanceof ReconcileError)) return describeFault(error);
  if (error.reason === 'Internal' && error.cause !== undefined) return describeFault(error.cause);
  const reason = causeReason(error) ?? error.reason;
  return `${printable(error.message)} (${reason})\n  ${ADVICE[reason]}`;
}

/** Of a store that lets nobody in, a person wants to know that; a daemon, that there is none for now. */
function causeReason({ reason, cause }: ReconcileError): Reason | undefined {
  if (reason !== 'StoreUnavailable' || !(cause instanceof ReconcileError)) return undefined;
  return cause.reason === 'AccessDenied' || cause.reason === 'AuthenticationFailed' ? cause.reason : undefined;
}

/** What no adapter classified: here the stack is all that helps. */
function describeFault(fault: unknown): string {
  const stack = fault instanceof Error ? (fault.stack ?? fault.message) : String(fault);
  return `plugset hit an unexpected fault; please report it with these lines\n${stack}`;
}

/** The error as data, for `-o json`. */
export function errorData(error: ReconcileError): { class: string; reason: string; message: string } {
  return { class: error.class, reason: error.reason, message: error.message };
}
