import { z } from 'zod';

import type { Policy } from './workspace.ts';

/*
 * When a runtime is reloaded or restarted so that it takes up what was changed under it. Everything here is pure; the document
 * outlives the controller.
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

/** How long a runtime may take to start: one that never says that it has would else never be restarted again. */
export const LONGEST_START_MS = 15 * 60_000;

/** What has to be brought back so soon after a restart of ours has gone with it, where no look has found it there since. */
const AFTERMATH_MS = 15 * 60_000;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/**
 * So many restarts within a day for the same correction of the same state: somebody undoes it each time, and more of them
 * change nothing but that the agent never ends its work.
 */
const MOST_REPEATS = 3;

/** What is remembered of the restarts of one workspace. Times are Unix milliseconds. */
export const activationSchema = z.object({
  /** Changes on the target that its runtime has not taken up. */
  pending: z
    .object({
      /** Which target; another one has nothing of ours running. */
      identity: z.string(),
      /**
       * Start of the runtime under which the last of them was made. Compared for being another one and never for order:
       * it is a time of the engine's clock, and ours may be minutes away from that.
       */
      startedAtMs: z.number(),
      firstAtMs: z.number(),
      lastAtMs: z.number(),
      /** The last of them brought back what was there before. */
      isCorrective: z.boolean().default(false),
      /** What it takes: the most that any of them does. */
      kind: z.enum(['reload', 'restart']).default('restart'),
      /** The newest of them in words, and the plan of the last. */
      changes: z.array(z.string()).default([]),
      planId: z.string().default(''),
    })
    .optional(),
  /** A restart of ours that was begun; written before it is. */
  begun: z
    .object({
      atMs: z.number(),
      /** Which target was restarted … */
      identity: z.string().default(''),
      /** … and the mark of the declared place that it was then. */
      place: z.string().default(''),
      startedAtMs: z.number(),
      /** It was heard to have been done: what is looked at from then on is of after it. */
      isDone: z.boolean().default(false),
      /** What was heard of it, where that was nothing good. */
      problem: z.string().optional(),
    })
    .optional(),
  /** When restarts of ours were begun, within the last hour. */
  restartsMs: z.array(z.number()).default([]),
  /** The start that followed our last restart, until a look has found there what was there before. */
  unproven: z
    .object({ restartAtMs: z.number(), identity: z.string(), place: z.string(), startedAtMs: z.number() })
    .optional(),
  /** Restarts within the last day for one correction that had to be made over and over, by the plan that made it. */
  repeated: z.object({ planId: z.string(), timesMs: z.array(z.number()) }).optional(),
  /** The newest restart that somebody asked for, by its token. Open until it is begun. */
  purpose: z.object({ token: z.string(), isOpen: z.boolean() }).optional(),
  /** Target on which a restart of ours has lost what was installed. */
  lostOn: z.string().optional(),
});

export type ActivationRecord = z.infer<typeof activationSchema>;

export const NO_ACTIVATION: ActivationRecord = { restartsMs: [] };

/** What stays of a workspace that was deleted, so that declaring it again is no way to more restarts; `undefined`: nothing. */
export function afterDeletion(record: ActivationRecord, nowMs: number): ActivationRecord | undefined {
  const restartsMs = record.restartsMs.filter((atMs) => atMs > nowMs - HOUR_MS);
  return restartsMs.length === 0 ? undefined : { restartsMs, lostOn: record.lostOn };
}

/** Nothing in it would matter any more, were the workspace declared again. */
export function isAgedOut({ pending, begun, restartsMs }: ActivationRecord, nowMs: number): boolean {
  const times = [...restartsMs, pending?.lastAtMs, begun?.atMs].filter((atMs) => atMs !== undefined);
  return times.every((atMs) => Math.abs(nowMs - atMs) > HOUR_MS);
}

/** What the target says of its runtime now. */
export interface RuntimeFacts {
  readonly identity: string;
  /** Mark of the declared place: the same for another container that was put where the last one was. */
  readonly place: string;
  /** By the clock of its engine: only whether it is another one means anything. */
  readonly startedAtMs: number;
  /** It says itself that it has not finished starting, or has not been up for as long as it takes. */
  readonly isBooting: boolean;
  /** The command of its profile that tells when it has started whole does not say so. Never where there is none. */
  readonly isUnready?: boolean | undefined;
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
      readonly reason: 'RestartPending' | 'RestartDeferred' | 'RestartRepeated' | 'RestartFailed';
      readonly message: string;
      readonly atMs: number;
    }
  | { readonly kind: 'restart' }
  /** By the command of its profile. */
  | { readonly kind: 'reload' }
  /** Only a person can have it activated. */
  | { readonly kind: 'never'; readonly reason: 'NotDurable' | 'RestartNever'; readonly message: string };

/** What is about to be done to a target. */
export interface MadeChange {
  readonly planId: string;
  /** In words: `install superpowers v4.1.0`. */
  readonly summary: string;
  /** It only brings back what was there before. */
  readonly isCorrective: boolean;
  /** Left out: a restart. */
  readonly kind?: 'reload' | 'restart' | undefined;
}

/** How many of a burst of changes are told as what a restart was for. */
const TOLD_CHANGES = 3;

/** Before a change on the target. */
export function withChange(
  record: ActivationRecord,
  { identity, startedAtMs }: Pick<RuntimeFacts, 'identity' | 'startedAtMs'>,
  { planId, summary, isCorrective, kind = 'restart' }: MadeChange,
  nowMs: number,
): ActivationRecord {
  const before = record.pending?.identity === identity ? record.pending : undefined;
  const firstAtMs = before?.firstAtMs ?? nowMs;
  const earlier = (before?.changes ?? []).filter((change) => change !== summary);
  const changes = [...earlier, summary].slice(-TOLD_CHANGES);
  const what = { kind: before?.kind === 'restart' ? 'restart' : kind, isCorrective, changes, planId } as const;
  return { ...record, pending: { identity, startedAtMs, firstAtMs, lastAtMs: nowMs, ...what } };
}

/** Somebody asks for a restart; a token that was seen before asks for nothing. */
export function withPurpose(record: ActivationRecord, token: string | undefined): ActivationRecord {
  return token === undefined || record.purpose?.token === token
    ? record
    : { ...record, purpose: { token, isOpen: true } };
}

/** A clock that was wrong and was put right must not have anything wait for the time it once told. */
export function withoutFuture(record: ActivationRecord, nowMs: number): ActivationRecord {
  const { pending, begun, unproven, restartsMs, repeated } = record;
  const past = (atMs: number): number => Math.min(atMs, nowMs);
  return {
    ...record,
    pending: pending && { ...pending, firstAtMs: past(pending.firstAtMs), lastAtMs: past(pending.lastAtMs) },
    begun: begun && { ...begun, atMs: past(begun.atMs) },
    unproven: unproven && { ...unproven, restartAtMs: past(unproven.restartAtMs) },
    restartsMs: restartsMs.map(past),
    repeated: repeated && { ...repeated, timesMs: repeated.timesMs.map(past) },
  };
}

/**
 * The record brought up to what the target shows: a runtime that has started since the last change has taken it up.
 * `wasIntact`: the pass has found there, before it changed anything, all that was delivered before.
 */
export function settleActivation(
  remembered: ActivationRecord,
  runtime: RuntimeFacts,
  wasIntact: boolean,
  nowMs: number,
): ActivationRecord {
  const record = withoutFuture(remembered, nowMs);
  const { pending, begun } = record;
  const { identity, startedAtMs } = runtime;
  const isTakenUp = pending !== undefined && (pending.identity !== identity || pending.startedAtMs !== startedAtMs);
  const unproven = lastStart(record, runtime);
  const isLost = !isTakenUp && pending?.isCorrective === true && hasLost(unproven, runtime, pending.lastAtMs);
  // A look that may have been made before the restart proves nothing.
  const isProven = wasIntact && !(hasCome(begun, runtime) && begun?.isDone !== true);
  return {
    pending: isTakenUp ? undefined : pending,
    begun: isOver(begun, runtime, nowMs) ? undefined : begun,
    restartsMs: record.restartsMs.filter((atMs) => atMs > nowMs - HOUR_MS),
    unproven: isProven ? undefined : unproven,
    repeated: lately(record.repeated, nowMs),
    purpose: record.purpose,
    lostOn: isLost || record.lostOn === identity ? identity : undefined,
  };
}

function lately(repeated: ActivationRecord['repeated'], nowMs: number): ActivationRecord['repeated'] {
  const timesMs = repeated?.timesMs.filter((atMs) => atMs > nowMs - DAY_MS) ?? [];
  return repeated === undefined || timesMs.length === 0 ? undefined : { ...repeated, timesMs };
}

type Begun = NonNullable<ActivationRecord['begun']>;
type Unproven = ActivationRecord['unproven'];

/** Whether that is what was restarted, or what somebody put in its place. A workspace that has moved is elsewhere. */
function isOfThis(begun: Begun, { identity, place }: RuntimeFacts): boolean {
  return begun.identity === identity || begun.place === place;
}

/** The restart that was begun is seen to have come about. */
export function hasCome(begun: Begun | undefined, runtime: RuntimeFacts): boolean {
  return begun !== undefined && isOfThis(begun, runtime) && begun.startedAtMs !== runtime.startedAtMs;
}

function isOver(begun: Begun | undefined, runtime: RuntimeFacts, nowMs: number): boolean {
  if (begun === undefined) return false;
  if (hasCome(begun, runtime)) return runtime.isUnready !== true;
  return !isOfThis(begun, runtime) || nowMs - begun.atMs > RESTART_DEADLINE_MS;
}

/** A container that takes the place of the one that we restarted, before a look found that one whole, goes to our account. */
function lastStart({ begun, unproven }: ActivationRecord, runtime: RuntimeFacts): Unproven {
  const { identity, startedAtMs } = runtime;
  if (begun !== undefined && hasCome(begun, runtime))
    return { restartAtMs: begun.atMs, identity, place: begun.place, startedAtMs };
  if (unproven === undefined || unproven.place !== runtime.place || unproven.identity === identity) return unproven;
  return { ...unproven, identity, startedAtMs };
}

/** What had to be brought back then, our last restart has lost: another one would lose it again. */
function hasLost(unproven: Unproven, { place, startedAtMs }: RuntimeFacts, changedAtMs: number): boolean {
  return (
    unproven !== undefined &&
    unproven.place === place &&
    unproven.startedAtMs === startedAtMs &&
    changedAtMs - unproven.restartAtMs < AFTERMATH_MS
  );
}

/** A look has found everything there after a restart of ours: what is not there later, somebody else has changed. */
export function withProof(record: ActivationRecord, place: string): ActivationRecord {
  const { begun, pending, unproven } = record;
  // What had to be brought back is there because it was.
  const isProven = unproven?.place === place && begun === undefined && pending?.isCorrective !== true;
  return isProven ? { ...record, unproven: undefined } : record;
}

/** The part of {@link nextStep} that needs no look at the target; `undefined`: look. */
export function stepWithoutLook(
  { pending, begun, purpose }: ActivationRecord,
  restart: Policy['restart'],
  limits: ActivationLimits,
  nowMs: number,
): ActivationStep | undefined {
  if (
    pending === undefined ||
    pending.kind === 'reload' ||
    purpose?.isOpen === true ||
    begun !== undefined ||
    restart === 'Never'
  )
    return undefined;
  if (pending.lastAtMs > nowMs) return undefined;
  const dueAtMs = Math.min(pending.lastAtMs + limits.quietMs, pending.firstAtMs + limits.patienceMs);
  return nowMs < dueAtMs
    ? wait('RestartPending', 'one restart follows once nothing changes for a moment', dueAtMs)
    : undefined;
}

type Wait = Extract<ActivationStep, { kind: 'wait' }>;

/** What waits for room says until when: people plan with it. */
export function wait(reason: Wait['reason'], message: string, atMs: number): Wait {
  const until =
    reason === 'RestartDeferred' || reason === 'RestartRepeated' ? `; it is restarted at ${isoSeconds(atMs)}` : '';
  return { kind: 'wait', reason, message: `${message}${until}`, atMs };
}

/** While the runtime is at work. */
export function waitWhileBusy(message: string, atMs: number): Wait {
  return {
    kind: 'wait',
    reason: 'RestartDeferred',
    message: `${message}; it is asked again at ${isoSeconds(atMs)}`,
    atMs,
  };
}

/** Rounded up: a time that is told has come when it is kept. */
function isoSeconds(atMs: number): string {
  return new Date(Math.ceil(atMs / 1000) * 1000).toISOString().replace('.000Z', 'Z');
}

type Never = Extract<ActivationStep, { kind: 'never' }>;

/** Why no restart follows a change; `undefined`: one does. */
export function whyNever(
  { lostOn }: ActivationRecord,
  { identity, wouldLose }: Pick<RuntimeFacts, 'identity' | 'wouldLose'>,
  restart: Policy['restart'],
): Never | undefined {
  if (restart === 'Never') {
    return {
      kind: 'never',
      reason: 'RestartNever',
      message: 'the runtime takes changes up when somebody restarts it: policy.restart is Never',
    };
  }
  const loss =
    lostOn === identity ? 'what was installed was lost or undone soon after our last restart of it' : wouldLose;
  if (loss === undefined) return undefined;
  return {
    kind: 'never',
    reason: 'NotDurable',
    message: `${loss}; it is not restarted, or what was delivered would be gone`,
  };
}

/** What is to be done about a settled record. */
export function nextStep(
  record: ActivationRecord,
  runtime: RuntimeFacts,
  restart: Policy['restart'],
  limits: ActivationLimits,
  nowMs: number,
): ActivationStep {
  const { pending, begun: asked, restartsMs, repeated } = record;
  const isComing = hasCome(asked, runtime);
  if (asked !== undefined && isComing && (pending === undefined || runtime.isBooting)) {
    const message = 'it was restarted, and its runtime has not said that it has started whole (ready)';
    return nowMs - asked.atMs < LONGEST_START_MS
      ? wait('RestartPending', message, runtime.bootedAtMs)
      : wait('RestartFailed', `${message} for a quarter of an hour`, runtime.bootedAtMs);
  }
  const begun = isComing ? undefined : asked;
  const isOnPurpose = record.purpose?.isOpen === true;
  if (pending === undefined && !isOnPurpose) return { kind: 'none' };
  if (!isOnPurpose && begun === undefined && pending?.kind === 'reload') return reloadStep(runtime);
  const never = whyNever(record, runtime, isOnPurpose ? 'IfNeeded' : restart);
  if (never !== undefined) return never;
  if (begun !== undefined) {
    const overAtMs = begun.atMs + RESTART_DEADLINE_MS;
    return begun.problem === undefined
      ? wait('RestartPending', UNDER_WAY, overAtMs)
      : wait('RestartFailed', begun.problem, overAtMs);
  }
  const early = stepWithoutLook({ ...record, begun }, restart, limits, nowMs);
  if (early !== undefined) return early;
  if (runtime.isBooting)
    return wait('RestartPending', 'it is restarted once it has finished starting', runtime.bootedAtMs);
  if (isOnPurpose || pending === undefined) return { kind: 'restart' };
  if (restartsMs.length >= limits.perHour) {
    const atMs = Math.min(...restartsMs) + HOUR_MS;
    return wait('RestartDeferred', `${limits.perHour} restarts within an hour are enough`, atMs);
  }
  if (repeated !== undefined && repeated.planId === pending.planId && repeated.timesMs.length >= MOST_REPEATS) {
    const message = `restarted ${MOST_REPEATS} times within a day for one and the same correction, which something on the target undoes`;
    return wait('RestartRepeated', message, Math.min(...repeated.timesMs) + DAY_MS);
  }
  return { kind: 'restart' };
}

/** It disturbs nobody, so that neither policy nor budget is asked. */
function reloadStep(runtime: RuntimeFacts): ActivationStep {
  return runtime.isBooting
    ? wait('RestartPending', 'it is reloaded once it has finished starting', runtime.bootedAtMs)
    : { kind: 'reload' };
}

/** It has come about, or it could not be had, and takes a restart after all. */
export function afterReload(record: ActivationRecord, isDone: boolean): ActivationRecord {
  return {
    ...record,
    pending: isDone || record.pending === undefined ? undefined : { ...record.pending, kind: 'restart' },
  };
}

/**
 * What is to be done about a target that does not run; `undefined`: nothing, for it has been started since our last restart
 * was begun, or there was none. A restart that stopped it and could not start it has left it so: nobody else would come.
 */
export function revivalStep(
  { begun, restartsMs }: ActivationRecord,
  startedAtMs: number,
  limits: ActivationLimits,
  nowMs: number,
): Extract<ActivationStep, { kind: 'wait' | 'restart' }> | undefined {
  if (begun === undefined || begun.startedAtMs !== startedAtMs) return undefined;
  const inHour = restartsMs.filter((atMs) => atMs > nowMs - HOUR_MS);
  if (begun.problem === undefined && nowMs < begun.atMs + RESTART_DEADLINE_MS)
    return { kind: 'wait', reason: 'RestartPending', message: UNDER_WAY, atMs: begun.atMs + RESTART_DEADLINE_MS };
  const message = `a restart of ours has stopped it and could not start it again: ${begun.problem ?? 'no answer came'}`;
  const retryAtMs = begun.atMs + limits.patienceMs;
  if (nowMs < retryAtMs) return { kind: 'wait', reason: 'RestartFailed', message, atMs: retryAtMs };
  if (inHour.length < limits.perHour) return { kind: 'restart' };
  const tries = `it is tried no more than ${limits.perHour} times within an hour`;
  return {
    kind: 'wait',
    reason: 'RestartFailed',
    message: `${message}; ${tries}`,
    atMs: Math.min(...inHour) + HOUR_MS,
  };
}

const UNDER_WAY = 'the restart is under way';

/** To be written before the restart is asked for: a budget that is spent twice is better than one that is forgotten. */
export function beforeRestart(
  record: ActivationRecord,
  { identity, place, startedAtMs }: Pick<RuntimeFacts, 'identity' | 'place' | 'startedAtMs'>,
  nowMs: number,
): ActivationRecord {
  return {
    ...record,
    begun: { atMs: nowMs, identity, place, startedAtMs, isDone: false },
    restartsMs: [...record.restartsMs, nowMs],
    repeated: withRepeat(record, nowMs),
    purpose: record.purpose && { ...record.purpose, isOpen: false },
  };
}

/** A change that people asked for begins the count anew. */
function withRepeat({ pending, repeated }: ActivationRecord, nowMs: number): ActivationRecord['repeated'] {
  if (pending?.isCorrective !== true) return undefined;
  const before = repeated?.planId === pending.planId ? repeated.timesMs : [];
  return { planId: pending.planId, timesMs: [...before, nowMs] };
}

/** The restart that was begun has failed, or nobody can say: it is looked at for a while, and then tried again. */
export function afterFailure(record: ActivationRecord, problem: string): ActivationRecord {
  return { ...record, begun: record.begun && { ...record.begun, problem } };
}

/** It was heard to have been done; believed when the target shows it. */
export function afterSuccess(record: ActivationRecord): ActivationRecord {
  return { ...record, begun: record.begun && { ...record.begun, isDone: true } };
}
