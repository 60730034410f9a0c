import pg from 'pg';

import { aborted, ReconcileError, transient } from '../../domain/errors.ts';

/**
 * What is kept of an error of the driver. The original is dropped: pg hangs the whole client, connection parameters
 * included, on some errors, and the `detail` of a server error quotes rows.
 */
export class PostgresFault extends Error {
  override readonly name = 'PostgresFault';
  /** SQLSTATE or errno code; absent when the driver gave up by itself (timeouts). */
  readonly code: string | undefined;
  /** The server answered and the session goes on; anything else means that the connection is of no use any more. */
  readonly answered: boolean;

  constructor(error: Error) {
    super(error.message);
    if (error.stack !== undefined) this.stack = error.stack;
    this.code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
    this.answered = error instanceof pg.DatabaseError && error.severity === 'ERROR';
  }

  /** The server understood the statement and declined its data: a constraint, a trigger, a value it cannot hold. */
  get isDeclined(): boolean {
    return this.answered && /^(22|23)/.test(this.code ?? '');
  }
}

/** By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html): what a person should know or do. */
const EXPLANATIONS: Readonly<Record<string, string>> = {
  '3F000': 'its schema plugset is missing: `plugset run` makes it',
  '42P01': 'its schema plugset is missing or older than this build: `plugset run` brings it up to date',
  '42703': 'its schema plugset is older than this build: `plugset run` brings it up to date',
  '42883': 'its schema plugset is older than this build: `plugset run` brings it up to date',
  '42501': 'the role lacks a privilege; plugset makes and owns the schema plugset',
  '28000': 'it refused the role or the way of signing in',
  '28P01': 'it refused the password',
  '3D000': 'no database of that name exists',
  '53300': 'it has no connection to spare',
  '57014': 'the statement took too long',
  '57P01': 'it was shut down',
  '57P03': 'it is starting up or shutting down',
};

/** Any failure of a call to the database as the error that crosses the port: transient, nothing concluded. */
export function classifyPostgresError(thrown: unknown, signal: AbortSignal): ReconcileError {
  if (thrown instanceof ReconcileError) return thrown;
  if (signal.aborted) return aborted('the call to the database was cut short', signal.reason);
  const fault = thrown instanceof PostgresFault ? thrown : faultOf(thrown);
  const explanation = EXPLANATIONS[fault.code ?? ''] ?? `it could not be asked (${fault.code ?? 'no answer in time'})`;
  return transient('StoreUnavailable', `the Postgres database: ${explanation}`, fault);
}

export function faultOf(thrown: unknown): PostgresFault {
  return new PostgresFault(thrown instanceof Error ? thrown : new Error(String(thrown)));
}

/** The server's own words where it declined the data; our constraints and triggers are written to be read. */
export function declinedMessage(error: unknown): string | undefined {
  if (!(error instanceof ReconcileError) || !(error.cause instanceof PostgresFault)) return undefined;
  return error.cause.isDeclined ? error.cause.message : undefined;
}
