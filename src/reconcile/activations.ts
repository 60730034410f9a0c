import {
  activationSchema,
  afterDeletion,
  afterReload,
  afterFailure,
  afterSuccess,
  beforeRestart,
  hasCome,
  LONGEST_START_MS,
  NO_ACTIVATION,
  nextStep,
  revivalStep,
  settleActivation,
  stepWithoutLook,
  wait,
  waitWhileBusy,
  withChange,
  withProof,
  withPurpose,
  withoutFuture,
  type ActivationLimits,
  type ActivationRecord,
  type ActivationStep,
  type MadeChange,
  type RuntimeFacts,
} from '../domain/activation.ts';
import { canonicalJson } from '../domain/digest.ts';
import { inTense, type Verb } from '../domain/change-words.ts';
import { classifyError, waiting, type ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { stateKey } from '../domain/state-key.ts';
import type { PendingActivation } from '../domain/status.ts';
import { RESTART_REQUESTED_AT_ANNOTATION } from '../domain/workspace.ts';
import type { Clock } from '../ports/clock.ts';
import type { ControllerState } from '../ports/controller-state.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { HostPlace } from '../ports/plugin-host.ts';
import type { Activator, StoppedTarget } from '../ports/workspace-target.ts';
import { askRuntime } from './ask-runtime.ts';
import type { FleetRestarts } from './fleet-restarts.ts';
import type { Pass } from './pass.ts';
import { writeDocument } from './state-documents.ts';

export interface ActivationsOptions {
  readonly state: ControllerState;
  readonly clock: Clock;
  readonly metrics: Pick<Metrics, 'restarted'>;
  readonly limits: ActivationLimits;
  /** Left out: only each workspace has a budget. */
  readonly fleetRestarts?: FleetRestarts | undefined;
}

/** What is about to be done to a target. */
interface Change extends MadeChange {
  /** An interrupted change is brought to its end with it: something moves, whatever else comes of it. */
  readonly finishes: boolean;
}

/** What a pass has to know about the activation of what it changed. */
export interface ActivationOutcome {
  /** For the status; `undefined`: the runtime has taken everything up. */
  readonly pending: PendingActivation | undefined;
  /** When to look again, milliseconds from now. */
  readonly requeueAfterMs: number | undefined;
  /** It was restarted in this pass: what the last look showed is of before. */
  readonly restarted: boolean;
}

const NOTHING: ActivationOutcome = { pending: undefined, requeueAfterMs: undefined, restarted: false };

/**
 * Has runtimes take up what was changed under them, by one restart each and within their budget. What is remembered lives
 * in `ControllerState`: a controller that is restarted neither forgets a restart nor makes one twice.
 */
export class Activations {
  readonly #options: ActivationsOptions;
  /** What the documents say; this process is the only one that writes them while it leads. */
  readonly #known = new Map<WorkspaceKey, Known>();

  constructor(options: ActivationsOptions) {
    this.#options = options;
  }

  /**
   * Runs `change`, which is about to change the target. Written down before it is known what becomes of it, since a
   * controller may end in between; taken back when nothing was changed.
   */
  async around(pass: Pass, place: HostPlace, made: Change, change: () => Promise<void>): Promise<void> {
    const { identity, activator } = place.target;
    if (activator === undefined) return change();
    const before = await this.#read(pass);
    const { startedAtMs } = await activator.inspect(place.configDir, pass.signal);
    await this.#write(pass, withChange(before, { identity, startedAtMs }, made, this.#options.clock.now()));
    const count = pass.corrective + pass.intentional;
    try {
      await change();
    } catch (error) {
      if (!made.finishes && !pass.signal.aborted && classifyError(error).class !== 'unknown')
        await this.#write(pass, before);
      throw error;
    }
    if (!made.finishes && pass.corrective + pass.intentional === count) await this.#write(pass, before);
  }

  /** Restarts what is due, and says what is still to come. */
  async advance(pass: Pass, place: HostPlace, mayAct: boolean): Promise<ActivationOutcome> {
    const { activator } = place.target;
    if (activator === undefined) return NOTHING;
    const before = await this.#readProven(pass);
    const known = withPurpose(before, askedFor(pass));
    const isOnPurpose = known.purpose?.isOpen === true;
    if (known.pending === undefined && known.begun === undefined && !isOnPurpose) return NOTHING;
    const { clock, limits } = this.#options;
    const early = stepWithoutLook(known, pass.workspace.policy.restart, limits, clock.now());
    if (early?.kind === 'wait') return this.#waiting(early);
    const runtime = await this.#inspect(activator, pass, place);
    const record = settleActivation(known, runtime, pass.wasIntact, clock.now());
    if (canonicalJson(record) !== canonicalJson(before)) await this.#write(pass, record);
    // Of a restart that was begun by a controller that ended over it, nobody has told yet.
    if (hasCome(known.begun, runtime) && !known.begun?.isDone && known.begun?.problem === undefined)
      tellRestart(pass, known, RESTART, 'done');
    const step = nextStep(record, runtime, pass.workspace.policy.restart, limits, clock.now());
    switch (step.kind) {
      case 'none':
        return NOTHING;
      case 'never':
        return { ...NOTHING, pending: { reason: step.reason, message: step.message } };
      case 'wait':
        return this.#waiting(step);
      case 'reload':
        return mayAct ? this.#reload(pass, place, record) : { ...NOTHING, pending: HELD };
      case 'restart':
        if (!mayAct) return { ...NOTHING, pending: HELD };
        if (isOnPurpose) return this.#restart(pass, activator, record, runtime);
        return (
          (await this.#busy(pass, place)) ??
          (await this.#deferred(pass)) ??
          this.#restart(pass, activator, record, runtime)
        );
    }
  }

  /**
   * Starts a target again that a restart of ours has left stopped. `false`: it was none of ours. Throws
   * `WorkspaceNotRunning` while it cannot be started, and says why in the status as well.
   */
  async revive(pass: Pass, stopped: StoppedTarget, mayAct: () => Promise<boolean>): Promise<boolean> {
    const { clock, limits, metrics } = this.#options;
    const record = await this.#readNow(pass);
    const step = revivalStep(record, stopped.startedAtMs, limits, clock.now());
    if (step === undefined || record.begun === undefined) return false;
    if (step.kind === 'wait') {
      pass.activation = { reason: step.reason, message: step.message };
      throw down(stopped, step.message, step.atMs - clock.now());
    }
    if (!(await mayAct())) {
      pass.activation = HELD;
      return false;
    }
    const begun = beforeRestart(record, record.begun, clock.now());
    await this.#write(pass, begun);
    pass.logger.warn('starting again what a restart of ours has left stopped', { target: stopped.description });
    tellRestart(pass, begun, REVIVAL, 'unknown', stopped.description);
    try {
      await stopped.start(pass.signal);
    } catch (thrown) {
      pass.signal.throwIfAborted();
      const { class: errorClass, message } = classifyError(thrown);
      const outcome = errorClass === 'unknown' ? 'unknown' : 'failed';
      metrics.restarted(outcome);
      tellRestart(pass, begun, REVIVAL, outcome, stopped.description);
      await this.#write(pass, afterFailure(begun, message));
      pass.activation = { reason: 'RestartFailed', message };
      throw down(
        stopped,
        `a restart of ours has stopped it and could not start it again: ${message}`,
        limits.patienceMs,
      );
    }
    metrics.restarted('done');
    tellRestart(pass, begun, REVIVAL, 'done', stopped.description);
    await this.#write(pass, afterSuccess(begun));
    return true;
  }

  /** Whether anything is known to wait for a restart, or nothing is known at all. */
  isAwaited(pass: Pass): boolean {
    const record = this.#known.get(pass.key)?.record;
    return record === undefined || record.pending !== undefined || withPurpose(record, askedFor(pass)) !== record;
  }

  /** The workspace is gone for good: of it only the restarts are remembered that still count. */
  async drop(pass: Pass): Promise<void> {
    const record = afterDeletion(await this.#read(pass), this.#options.clock.now());
    const version = this.#known.get(pass.key)?.version;
    if (version !== undefined && record !== undefined) await this.#write(pass, record);
    else if (version !== undefined)
      await this.#options.state.remove(stateKey('activation', pass.key), version, pass.signal);
    this.forget(pass.key);
  }

  forget(key: WorkspaceKey): void {
    this.#known.delete(key);
  }

  #waiting({ reason, message, atMs }: Extract<ActivationStep, { kind: 'wait' }>): ActivationOutcome {
    const requeueAfterMs = Math.max(1, atMs - this.#options.clock.now());
    return { ...NOTHING, pending: { reason, message }, requeueAfterMs };
  }

  /** Done a second time where nobody has heard of the first: a reload may be repeated. */
  async #reload(pass: Pass, place: HostPlace, record: ActivationRecord): Promise<ActivationOutcome> {
    const { reload } = place.profile;
    const code = reload === undefined ? undefined : await askRuntime(pass, place, reload.command);
    const isDone = code === 0;
    tellRestart(pass, record, RELOAD, isDone ? 'done' : 'failed');
    if (!isDone) pass.logger.warn('the reload failed; a restart follows in its place', { code });
    await this.#write(pass, afterReload(record, isDone));
    if (isDone) return NOTHING;
    const how = code === undefined ? 'gave no answer' : `ended with ${code}`;
    const message = `reload of the profile ${how}; a restart follows in its place`;
    return { pending: { reason: 'RestartPending', message }, requeueAfterMs: SOON_MS, restarted: false };
  }

  /** A runtime at work is let finish, and so is one of which nobody can tell. */
  async #busy(pass: Pass, place: HostPlace): Promise<ActivationOutcome | undefined> {
    const { busy } = place.profile;
    if (busy === undefined) return undefined;
    const code = await askRuntime(pass, place, busy);
    if (code === 1) return undefined;
    const atMs = this.#options.clock.now() + BUSY_RECHECK_MS;
    const why =
      code === 0
        ? 'its runtime says that it is at work (busy)'
        : `whether its runtime is at work could not be told: busy of the profile ${code === undefined ? 'gave no answer' : `ended with ${code}, and must end with 0 or 1`}`;
    return this.#waiting(waitWhileBusy(why, atMs));
  }

  /** What the fleet has no room for waits; `undefined`: it had, and it is taken. */
  async #deferred({ key, signal }: Pass): Promise<ActivationOutcome | undefined> {
    const room = await this.#options.fleetRestarts?.take(key, signal);
    if (room === undefined || room.kind === 'taken') return undefined;
    const { atMs, isSettling } = room;
    return this.#waiting(
      isSettling
        ? wait(
            'RestartPending',
            'the controller has just begun, and restarts nothing before it has seen its fleet',
            atMs,
          )
        : wait('RestartDeferred', 'the fleet as a whole was restarted often enough (activation.fleetRestarts)', atMs),
    );
  }

  async #restart(
    pass: Pass,
    activator: Activator,
    record: ActivationRecord,
    runtime: RuntimeFacts,
  ): Promise<ActivationOutcome> {
    const { clock, metrics } = this.#options;
    const begun = beforeRestart(record, runtime, clock.now());
    await this.#write(pass, begun);
    pass.logger.info(
      record.purpose?.isOpen === true
        ? 'restarting, because somebody asked for it'
        : 'restarting, so that the runtime takes up what was changed',
      { target: pass.target },
    );
    const isAsked = record.purpose?.isOpen === true;
    tellRestart(pass, begun, isAsked ? ASKED_RESTART : RESTART, 'unknown');
    try {
      await activator.restart(pass.signal);
    } catch (thrown) {
      pass.signal.throwIfAborted();
      const error = classifyError(thrown);
      const outcome = error.class === 'unknown' ? 'unknown' : 'failed';
      metrics.restarted(outcome);
      tellRestart(pass, begun, isAsked ? ASKED_RESTART : RESTART, outcome);
      pass.logger.warn('the restart failed; whether it came to anything is looked at again', { error });
      await this.#write(pass, afterFailure(begun, error.message));
      return { pending: { reason: 'RestartFailed', message: error.message }, requeueAfterMs: SOON_MS, restarted: true };
    }
    metrics.restarted('done');
    tellRestart(pass, begun, isAsked ? ASKED_RESTART : RESTART, 'done');
    // Believed when the target shows it: the next pass looks.
    await this.#write(pass, afterSuccess(begun));
    return { pending: RESTARTING, requeueAfterMs: SOON_MS, restarted: true };
  }

  async #inspect(activator: Activator, pass: Pass, at: HostPlace): Promise<RuntimeFacts> {
    const { signal, place = '' } = pass;
    const { target, configDir, profile } = at;
    const { startedAtMs, isStarting, wouldLose } = await activator.inspect(configDir, signal);
    // Both times are of the engine's clock, which may be minutes away from ours.
    const upMs = (await activator.now(signal)) - startedAtMs;
    const nowMs = this.#options.clock.now();
    // Its own word counts for more than a time; but one that never finishes starting would never be restarted.
    const isUnready = profile.ready !== undefined && (await askRuntime(pass, at, profile.ready)) !== 0;
    const saysSo = profile.ready === undefined ? isStarting : isUnready || isStarting === true;
    const isBooting = saysSo === undefined ? upMs < profile.bootMs : saysSo && upMs < LONGEST_START_MS;
    return {
      identity: target.identity,
      place,
      startedAtMs,
      isBooting,
      isUnready,
      bootedAtMs: nowMs + (isUnready ? READY_RECHECK_MS : Math.max(profile.bootMs - upMs, SOON_MS)),
      wouldLose,
    };
  }

  /** Written back where a clock was put right, or every look would begin to wait anew. */
  async #readNow(pass: Pass): Promise<ActivationRecord> {
    const known = await this.#read(pass);
    const record = withoutFuture(known, this.#options.clock.now());
    if (canonicalJson(record) !== canonicalJson(known)) await this.#write(pass, record);
    return record;
  }

  async #readProven(pass: Pass): Promise<ActivationRecord> {
    const known = await this.#read(pass);
    const record = pass.wasIntact ? withProof(known, pass.place ?? '') : known;
    if (record !== known) await this.#write(pass, record);
    return record;
  }

  async #read({ key, signal }: Pass): Promise<ActivationRecord> {
    const known = this.#known.get(key);
    if (known !== undefined) return known.record;
    const document = await this.#options.state.get(stateKey('activation', key), signal);
    const record = document === undefined ? NO_ACTIVATION : this.#parsed(document.value);
    this.#known.set(key, { record, version: document?.version });
    return record;
  }

  /** What cannot be read may have been a spent budget, and is taken for one. */
  #parsed(value: unknown): ActivationRecord {
    const { clock, limits } = this.#options;
    const spent = { restartsMs: Array.from({ length: limits.perHour }, () => clock.now()) };
    return activationSchema.safeParse(value).data ?? spent;
  }

  async #write(pass: Pass, record: ActivationRecord): Promise<void> {
    const { key, signal } = pass;
    const expected = this.#known.get(key)?.version;
    // Until it is written, nobody knows what the document says.
    this.#known.delete(key);
    const version = await writeDocument(this.#options.state, stateKey('activation', key), expected, record, signal);
    this.#known.set(key, { record, version });
  }
}

const RESTART: Verb = { plain: 'restart', past: 'restarted' };
const RELOAD: Verb = { plain: 'reload', past: 'reloaded' };
const ASKED_RESTART: Verb = { plain: 'restart, as somebody asked,', past: 'restarted, as somebody asked,' };
const REVIVAL: Verb = { plain: 'start', past: 'started' };
const OUTCOMES = { done: 'Succeeded', failed: 'Failed', unknown: 'Unknown' } as const;

/** For the history: who wonders why it was restarted finds there what for. The last word counts. */
function tellRestart(
  pass: Pass,
  { pending }: ActivationRecord,
  verb: Verb,
  outcome: keyof typeof OUTCOMES,
  target = pass.target,
): void {
  const why = pending === undefined ? '' : `, so that it takes up: ${pending.changes.join(', ')}`;
  const planId = pending?.planId ?? '';
  pass.restart = { planId, outcome: OUTCOMES[outcome], summary: `${inTense(verb, outcome)} ${target}${why}` };
}

/** Where the operator has locked that there is none, nobody who declares can ask for one. */
function askedFor({ workspace }: Pass): string | undefined {
  const { lockedPolicy, policy } = workspace;
  if (policy.restart === 'Never' && lockedPolicy.includes('restart')) return undefined;
  return workspace.annotations[RESTART_REQUESTED_AT_ANNOTATION];
}

interface Known {
  readonly record: ActivationRecord;
  readonly version: string | undefined;
}

function down({ description }: StoppedTarget, why: string, retryMs: number): ReconcileError {
  return waiting('WorkspaceNotRunning', `${description} does not run: ${why}`, Math.max(SOON_MS, retryMs));
}

const SOON_MS = 2_000;
const READY_RECHECK_MS = 5_000;
const BUSY_RECHECK_MS = 60_000;
const RESTARTING: PendingActivation = {
  reason: 'RestartPending',
  message: 'it was restarted; what came of it is looked at',
};
const HELD: PendingActivation = {
  reason: 'RestartPending',
  message: 'a restart is due and waits with everything else',
};
