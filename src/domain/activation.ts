import { z } from 'zod';

import type { Policy } from './workspace.ts';

/*
 * When a runtime is restarted so that it takes up what was changed under it. First form: one kind of activation, the
 * restart of the whole workspace. Everything here is pure; the document outlives the controller.
 */

export interface ActivationLimits {
  /** A restart waits until nothing has changed for so long … */
  readonly quietMs: number;
  /** … but no longer than this after the first change that it is for. */
  readonly patienceMs: number;
  /** Restarts of one workspace within an hour. */
  readonly perHour: number;
}

export const DEFAULT_ACTIVATION: ActivationLimits = { quietMs: 15_000, patienceMs: 120_000, perHour: 3 };

/** How long a restart may take before it counts as failed and is tried again. */
const RESTART_DEADLINE_MS = 180_000;

const HOUR_MS = 3_600_000;

/** What is remembered of the restarts of one workspace. Times are Unix milliseconds. */
export const activationSchema = z.object({
  /** Changes on the target that its runtime has not taken up. */
  pending: z
    .object({
      /** Which target; another one has nothing of ours running. */
      identity: z.string(),
      firstAtMs: z.number(),
      lastAtMs: z.number(),
      /** The last of them brought back what was there before. */
      isCorrective: z.boolean().default(false),
    })
    .optional(),
  /** A restart of ours that was begun; written before it is. */
  begun: z.object({ atMs: z.number(), startedAtMs: z.number() }).optional(),
  /** When restarts of ours were begun, within the last hour. */
  restartsMs: z.array(z.number()).default([]),
  /** Start of the runtime that followed our last restart: what is missing right after it, the restart has lost. */
  ownStartMs: z.number().optional(),
  /** Target on which a restart of ours has lost what was installed. */
  lostOn: z.string().optional(),
});

export type ActivationRecord = z.infer<typeof activationSchema>;

export const NO_ACTIVATION: ActivationRecord = { restartsMs: [] };

/** What the target says of its runtime now. */
export interface RuntimeFacts {
  readonly identity: string;
  readonly startedAtMs: number;
  /** It says itself that it has not finished starting, or has not been up for as long as it takes. */
  readonly isBooting: boolean;
  /** When it will have been up for long enough, where `isBooting` comes from that. */
  readonly bootedAtMs: number;
  /** `undefined`: a restart keeps the config directory; else why it would not. */
  readonly wouldLose: string | undefined;
}

export type ActivationStep =
  | { readonly kind: 'none' }
  /** Nothing to do before `atMs`. */
  | {
      readonly kind: 'wait';
      readonly reason: 'RestartPending' | 'RestartDeferred';
      readonly message: string;
      readonly atMs: number;
    }
  | { readonly kind: 'restart' }
  /** Only a person can have it activated. */
  | { readonly kind: 'never'; readonly reason: 'NotDurable' | 'RestartNever'; readonly message: string };

/** Before or after a change on the target. `isCorrective`: it brings back what was there before. */
export function withChange(
  record: ActivationRecord,
  identity: string,
  isCorrective: boolean,
  nowMs: number,
): ActivationRecord {
  const before = record.pending?.identity === identity ? record.pending : undefined;
  return { ...record, pending: { identity, firstAtMs: before?.firstAtMs ?? nowMs, lastAtMs: nowMs, isCorrective } };
}

/** The record brought up to what the target shows: a runtime that has started since the last change has taken it up. */
export function settleActivation(record: ActivationRecord, runtime: RuntimeFacts, nowMs: number): ActivationRecord {
  const { pending, begun } = record;
  const { identity, startedAtMs } = runtime;
  const isBack = begun !== undefined && startedAtMs !== begun.startedAtMs;
  const isOver = isBack || (begun !== undefined && nowMs - begun.atMs > RESTART_DEADLINE_MS);
  const ownStartMs = isBack ? startedAtMs : record.ownStartMs;
  const isTakenUp = pending !== undefined && (pending.identity !== identity || startedAtMs > pending.lastAtMs);
  // What has to be brought back after our own restart, that restart has lost: another one would lose it again.
  const isLost = !isTakenUp && pending?.isCorrective === true && ownStartMs === startedAtMs;
  return {
    pending: isTakenUp ? undefined : pending,
    begun: isOver ? undefined : begun,
    restartsMs: record.restartsMs.filter((atMs) => atMs > nowMs - HOUR_MS),
    ownStartMs,
    lostOn: isLost || record.lostOn === identity ? identity : undefined,
  };
}

/** The part of {@link nextStep} that needs no look at the target; `undefined`: look. */
export function stepWithoutLook(
  { pending, begun }: ActivationRecord,
  restart: Policy['restart'],
  limits: ActivationLimits,
  nowMs: number,
): ActivationStep | undefined {
  if (pending === undefined || begun !== undefined || restart === 'Never') return undefined;
  const dueAtMs = Math.min(pending.lastAtMs + limits.quietMs, pending.firstAtMs + limits.patienceMs);
  return nowMs < dueAtMs
    ? wait('RestartPending', 'one restart follows once nothing changes for a moment', dueAtMs)
    : undefined;
}

function wait(reason: 'RestartPending' | 'RestartDeferred', message: string, atMs: number): ActivationStep {
  return { kind: 'wait', reason, message, atMs };
}

/** What is to be done about a settled record. */
export function nextStep(
  record: ActivationRecord,
  runtime: RuntimeFacts,
  restart: Policy['restart'],
  limits: ActivationLimits,
  nowMs: number,
): ActivationStep {
  const { pending, begun, restartsMs } = record;
  if (pending === undefined) return { kind: 'none' };
  if (restart === 'Never') {
    return {
      kind: 'never',
      reason: 'RestartNever',
      message: 'the runtime takes changes up when somebody restarts it: policy.restart is Never',
    };
  }
  const loss = record.lostOn === runtime.identity ? 'the last restart lost what was installed' : runtime.wouldLose;
  if (loss !== undefined)
    return {
      kind: 'never',
      reason: 'NotDurable',
      message: `${loss}; it is not restarted, or what was delivered would be gone`,
    };
  if (begun !== undefined) return wait('RestartPending', 'the restart is under way', begun.atMs + RESTART_DEADLINE_MS);
  const early = stepWithoutLook(record, restart, limits, nowMs);
  if (early !== undefined) return early;
  if (runtime.isBooting)
    return wait('RestartPending', 'it is restarted once it has finished starting', runtime.bootedAtMs);
  if (restartsMs.length >= limits.perHour) {
    const atMs = Math.min(...restartsMs) + HOUR_MS;
    return wait('RestartDeferred', `${limits.perHour} restarts within an hour are enough; it waits for room`, atMs);
  }
  return { kind: 'restart' };
}

/** To be written before the restart is asked for: a budget that is spent twice is better than one that is forgotten. */
export function beforeRestart(record: ActivationRecord, runtime: RuntimeFacts, nowMs: number): ActivationRecord {
  return {
    ...record,
    begun: { atMs: nowMs, startedAtMs: runtime.startedAtMs },
    restartsMs: [...record.restartsMs, nowMs],
  };
}
