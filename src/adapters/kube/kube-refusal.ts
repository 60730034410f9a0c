import { ReconcileError, type ErrorClass } from '../../domain/errors.ts';
import type { Reason } from '../../domain/reason.ts';
import { printable } from '../../domain/text.ts';

/** `kind: Status`: what the API server says instead of an answer, in an HTTP answer or within a watch. */
export interface KubeStatus {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
  readonly details?: {
    readonly retryAfterSeconds?: number;
    readonly causes?: readonly { readonly reason?: string }[];
  };
}

/** Enough to say what was wrong, and no whole object that it quotes. */
const LONGEST_MESSAGE = 300;
/** An API server that is busy for longer is asked again all the same. */
const LONGEST_WAIT_MS = 120_000;

/** The API server answered, and did not do what it was asked for. */
export class KubeRefusal extends ReconcileError {
  /** As HTTP has them: 404, 409 … */
  readonly status: number;
  /** `NotFound`, `AlreadyExists`, `Conflict` …: tells two refusals of one status apart. Empty where it says none. */
  readonly statusReason: string;
  /** The version that was asked for is none to go on from: too old, or of a time that was taken back by a restore. */
  readonly isVersionLost: boolean;

  /** `what` was asked for; `retryAfter`: the header of that name, in seconds. */
  constructor(what: string, status: number, said: KubeStatus, retryAfter?: string) {
    const waitMs = waitOf(status, said, retryAfter);
    const [errorClass, reason] = meaningOf(status, waitMs);
    const text = printable(said.message ?? unsaid(status)).slice(0, LONGEST_MESSAGE);
    const name = said.reason === undefined || said.reason === '' ? '' : ` ${said.reason}`;
    super(errorClass, reason, `${what}: HTTP ${status}${name}${text === '' ? '' : `: ${text}`}`, {
      ...(waitMs === undefined ? {} : { retryAfterMs: waitMs }),
    });
    this.status = status;
    this.statusReason = said.reason ?? '';
    const causes = said.details?.causes?.map((cause) => cause.reason) ?? [];
    this.isVersionLost = status === 410 || causes.includes('ResourceVersionTooLarge');
  }
}

function meaningOf(status: number, waitMs: number | undefined): readonly [ErrorClass, Reason] {
  if (status === 401) return ['terminal', 'AuthenticationFailed'];
  if (status === 403) return ['terminal', 'AccessDenied'];
  if (status === 404) return ['transient', 'ObjectNotFound'];
  if (status === 409) return ['transient', 'Conflict'];
  if (status === 429) return ['waiting', 'Throttled'];
  // What we sent cannot be taken as it is: a fault of ours.
  if ([400, 405, 406, 413, 415, 422].includes(status)) return ['transient', 'Internal'];
  return [waitMs === undefined ? 'transient' : 'waiting', 'Unreachable'];
}

/** Of an object that is not there the server says so; of a kind that it does not know it says nothing but 404. */
function unsaid(status: number): string {
  return status === 404
    ? 'it does not know this kind of objects; its CustomResourceDefinition may not be installed'
    : '';
}

/** When to come back, if the answer says so; 429 always means a time. */
function waitOf(status: number, { details }: KubeStatus, header: string | undefined): number | undefined {
  const said = [header, details?.retryAfterSeconds, status === 429 ? 1 : undefined].map(Number);
  const seconds = said.find((number) => number >= 0);
  return seconds === undefined ? undefined : Math.min(seconds * 1_000, LONGEST_WAIT_MS);
}
