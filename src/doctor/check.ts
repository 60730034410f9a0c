import { ADVICE } from '../domain/advice.ts';
import { ReconcileError } from '../domain/errors.ts';
import { printable } from '../domain/text.ts';
import type { Clock } from '../ports/clock.ts';
import type { Facts } from '../ports/path-trace.ts';
import { Deadline, Expired } from '../ports/deadline.ts';

/** `FAIL`: plugset cannot do its work as it is configured. `warn`: it can, and somebody should know. */
export type Result = 'ok' | 'warn' | 'FAIL';

/** What one check came to. `fix`: what a person does about it; there for everything that is not ok. */
export interface Seen {
  readonly result: Result;
  readonly seen: string;
  readonly fix?: string | undefined;
  /** Of a check that goes a way: which step of it, how long that took, and the facts in `seen`, for machines. */
  readonly step?: string;
  readonly ms?: number;
  readonly facts?: Facts;
}

export interface Finding extends Seen {
  readonly check: string;
}

/** One question to the surroundings. It changes nothing there. */
export interface Check {
  readonly name: string;
  /** Several where one question shows several things; none where there is nothing to tell. */
  look(signal: AbortSignal): Promise<Seen | readonly Seen[]>;
  /** Default 10 s. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 10_000;

export function ok(seen: string): Seen {
  return { result: 'ok', seen };
}

export function warn(seen: string, fix: string): Seen {
  return { result: 'warn', seen, fix };
}

export function fail(seen: string, fix: string): Seen {
  return { result: 'FAIL', seen, fix };
}

/** All of them side by side, in their order: none waits for another, stops another, or goes on past its deadline. */
export async function runChecks(
  checks: readonly Check[],
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const findings = await Promise.all(checks.map((check) => runCheck(check, clock, signal)));
  signal.throwIfAborted();
  return findings.flat();
}

async function runCheck(check: Check, clock: Clock, signal: AbortSignal): Promise<readonly Finding[]> {
  const deadline = new Deadline(clock, check.deadlineMs ?? DEADLINE_MS, signal);
  try {
    const seen = await deadline.race(check.look(deadline.signal));
    return [seen].flat().map((one) => findingOf(check, one));
  } catch (error) {
    const isLate = deadline.cause === 'expired';
    return [findingOf(check, isLate ? late(deadline.ms) : failureOf(error))];
  } finally {
    deadline.clear();
  }
}

function findingOf({ name }: Check, { seen, fix, ...rest }: Seen): Finding {
  return { check: name, ...rest, seen: printable(seen), ...(fix === undefined ? {} : { fix: printable(fix) }) };
}

function late(ms: number): Seen {
  return fail(`no answer within ${ms / 1000} s`, 'Find out what hangs there: a network, a disk, a stopped process.');
}

/** What a thrown value says, in the words of its reason. */
export function failureOf(error: unknown): Seen {
  if (error instanceof ReconcileError) return fail(`${error.message} (${error.reason})`, ADVICE[error.reason]);
  if (error instanceof Expired) return late(error.ms);
  const { code, message } = error as NodeJS.ErrnoException;
  return fail(code ?? message, 'Report it, if the words before do not help: this check expected something else.');
}
