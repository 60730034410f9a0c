import { ConfigError } from '../config.ts';
import { ADVICE } from '../domain/advice.ts';
import { ReconcileError } from '../domain/errors.ts';
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
  return `${printable(error.message)} (${error.reason})\n  ${ADVICE[error.reason]}`;
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
