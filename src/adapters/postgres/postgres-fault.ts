import pg from 'pg';

import { aborted, ReconcileError, transient } from '../../domain/errors.ts';
import type { PostgresAddress } from './postgres-address.ts';

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

  constructor(error: Error, secrets: readonly string[] = []) {
    super(without(secrets, error.message));
    if (error.stack !== undefined) this.stack = without(secrets, error.stack);
    this.code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
    this.answered = error instanceof pg.DatabaseError && error.severity === 'ERROR';
  }

  /** The server understood the statement and declined its data: a constraint, a trigger, a value it cannot hold. */
  get isDeclined(): boolean {
    return this.answered && /^(22|23)/.test(this.code ?? '');
  }
}

/** By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html) or errno: what a person should know and do. */
const EXPLANATIONS: Readonly<Record<string, string>> = {
  '3F000': 'it has no schema plugset: `plugset run` makes it',
  '42P01': 'its schema plugset is missing or older than this plugset: `plugset run` brings it up to date',
  '42703': 'its schema plugset is older than this plugset: `plugset run` brings it up to date',
  '42883': 'its schema plugset is older than this plugset: `plugset run` brings it up to date',
  '42501': 'the role lacks a privilege; plugset makes and owns the schema plugset',
  '28000': 'it refused the role or the way of signing in; check the user, and pg_hba.conf on its side',
  '28P01': 'it refused the user or the password; correct them',
  '3D000': 'there is no database of that name; make it (createdb), or correct the name',
  '53300': 'it has no connection to spare; raise its max_connections, or end some',
  '57014': 'the statement took too long',
  '57P01': 'it was shut down',
  '57P03': 'it is starting up or shutting down',
  ECONNREFUSED: 'nothing listens there; start Postgres, or correct the address',
  ENOENT: 'there is no such socket; start Postgres, or correct the address',
  ENOTFOUND: 'its host name does not resolve; correct it',
  EAI_AGAIN: 'its host name could not be resolved just now',
  ETIMEDOUT: 'the host does not answer; correct the address, or look at the network between',
  EHOSTUNREACH: 'the host cannot be reached; correct the address, or look at the network between',
  ENETUNREACH: 'the host cannot be reached; correct the address, or look at the network between',
};

const UNTRUSTED = /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED|UNABLE_TO_|CERT_|ERR_TLS_CERT_)/;

/** Any failure of a call to the database as the error that crosses the port: transient, nothing concluded. */
export function classifyPostgresError(thrown: unknown, address: PostgresAddress, signal: AbortSignal): ReconcileError {
  if (thrown instanceof ReconcileError) return thrown;
  if (signal.aborted) return aborted('the call to the database was cut short', signal.reason);
  const fault = thrown instanceof PostgresFault ? thrown : faultOf(thrown, address.secrets);
  return transient('StoreUnavailable', `${address.place}: ${explain(fault, address)}`, fault);
}

function explain({ code }: PostgresFault, { asksForTls }: PostgresAddress): string {
  if (code === undefined)
    return `it gave no answer in time, or broke off${asksForTls ? '; TLS is asked for, does it offer that?' : ''}`;
  if (UNTRUSTED.test(code)) return `its TLS certificate is not trusted (${code}); name its authority with sslrootcert=`;
  return EXPLANATIONS[code] ?? `it could not be asked (${code})`;
}

export function faultOf(thrown: unknown, secrets: readonly string[] = []): PostgresFault {
  return new PostgresFault(thrown instanceof Error ? thrown : new Error(String(thrown)), secrets);
}

function without(secrets: readonly string[], text: string): string {
  return secrets.reduce((rest, secret) => rest.replaceAll(secret, '[hidden]'), text);
}

/** The server's own words where it declined the data; our constraints and triggers are written to be read. */
export function declinedMessage(error: unknown): string | undefined {
  if (!(error instanceof ReconcileError) || !(error.cause instanceof PostgresFault)) return undefined;
  return error.cause.isDeclined ? error.cause.message : undefined;
}
