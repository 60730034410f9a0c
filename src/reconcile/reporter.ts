import { ADVICE } from '../domain/advice.ts';
import { findCondition } from '../domain/condition.ts';
import { isSameData } from '../domain/same-data.ts';
import { terminal, type ReconcileError } from '../domain/errors.ts';
import type { Fence } from '../domain/fence.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import { isIdle } from '../domain/reason.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../domain/status.ts';
import { DELETED, deletionOf, standOf, transitionBetween, type DeletionEnd, type Stand } from '../domain/transition.ts';
import { overruledPolicy, uncountedApproval } from '../domain/workspace.ts';
import type { Clock } from '../ports/clock.ts';
import { Deadline } from '../ports/deadline.ts';
import type { Logger } from '../ports/logger.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { Notifier } from '../ports/notifier.ts';
import type { Loaded, WorkspaceStore } from '../ports/workspace-store.ts';
import { openRequest } from './decisions.ts';
import type { Pass } from './pass.ts';
import { summarize, type PassFacts } from './summarize.ts';

export interface ReporterOptions {
  readonly store: WorkspaceStore;
  readonly clock: Clock;
  readonly metrics: Metrics;
  /** Left out: nobody is told of transitions but the log. */
  readonly notifier?: Notifier | undefined;
}

/** How long the report of a pass that its deadline has ended may take. */
const LAST_WORD_MS = 10_000;
const NEVER = new AbortController().signal;

/** Tells the store, the metrics and the log what a pass came to: once, and only what changed. */
export class Reporter {
  readonly #options: ReporterOptions;
  /** When a look last got through, ISO; of looks by this process. */
  readonly #lastLooks = new Map<WorkspaceKey, string>();
  /** Where each stood in the last status that this process wrote or found written. */
  readonly #stands = new Map<WorkspaceKey, Stand | undefined>();
  /** Generation whose time from declared to converged was measured. */
  readonly #measured = new Map<WorkspaceKey, number>();

  constructor(options: ReporterOptions) {
    this.#options = options;
  }

  /** `failure` ended the pass early; failures of single plugins are in the verdicts. */
  async report(pass: Pass, fence: Fence, failure: ReconcileError | undefined, idle?: PassFacts['idle']): Promise<void> {
    const { workspace, observation, planned } = pass;
    const now = this.#now();
    const found =
      observation === undefined || planned === undefined ? undefined : { observation, verdicts: planned.verdicts };
    if (found !== undefined) this.#lastLooks.set(pass.key, now);
    const heldElsewhere = planned?.hold === undefined ? pass.heldElsewhere : undefined;
    const hold = planned?.hold ?? heldElsewhere?.hold;
    const planId = heldElsewhere?.planId ?? planned?.plan.id;
    const isInVerdicts =
      planned?.verdicts.some((verdict) => verdict.error !== undefined && verdict.error === failure) ?? false;
    const status = summarize(
      pass.previous,
      {
        generation: workspace.generation,
        target: pass.target,
        declared: workspace.deleting ? [] : workspace.plugins.map((plugin) => plugin.name),
        error: isInVerdicts ? undefined : failure,
        idle,
        found,
        lastLookAt: this.#lastLooks.get(pass.key),
        deleting: workspace.deleting,
        overruled: [...overruledPolicy(workspace), ...uncountedApproval(workspace, hold?.reason, planId)],
        desired: pass.desired.plugins,
        planId,
        place: pass.place,
        leftBehind: pass.leftBehind,
        history: pass.history,
        restart: pass.restart,
        elsewhere: pass.elsewhere,
        corrective: pass.corrective,
        intentional: pass.intentional,
        hold,
        activation: pass.activation,
        handledRequest: pass.request,
        handledApproval: pass.handledApproval,
        handledTakeover: pass.handledTakeover,
      },
      now,
    );
    await this.#write(pass.key, { ...pass, status: pass.previous }, status, fence, pass.signal);
    const ready = findCondition(status.conditions, 'Ready');
    // What ended a pass is thrown on, and the line that says so says as well what becomes of it.
    if (failure === undefined) logTransition(pass.logger, pass.previous, status);
    if (ready?.status === 'True') this.#measure(pass);
  }

  async reportMalformed(
    loaded: Extract<Loaded, { kind: 'malformed' }>,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<ReconcileError> {
    const error = terminal('InvalidSpec', loaded.problems.join('; '));
    const { key, generation, status: previous } = loaded;
    const facts: PassFacts = {
      generation,
      target: '',
      declared: [],
      error,
      desired: [],
      corrective: 0,
      intentional: 0,
      handledRequest: openRequest(loaded.requestedAt, previous.lastHandledReconcileAt),
    };
    await this.#write(key, loaded, summarize(previous, facts, this.#now()), fence, signal);
    return error;
  }

  /** Whoever was told that something is wrong with it hears that it is over. `previous`: what the store said of it last. */
  deleted(key: WorkspaceKey, previous: WorkspaceStatus, fence: Fence, end: DeletionEnd = DELETED): void {
    const from = this.#stands.get(key) ?? standOf(previous);
    this.#options.notifier?.notify(deletionOf(key, from, end, this.#now()), fence.authority);
  }

  /** It went without a word, as a file does whose plugins stay; told where this process has told of it before. */
  vanished(key: WorkspaceKey, fence: Fence): void {
    if (this.#stands.has(key)) this.deleted(key, EMPTY_STATUS, fence);
  }

  forget(key: WorkspaceKey): void {
    this.#stands.delete(key);
    this.#measured.delete(key);
    this.#lastLooks.delete(key);
    this.#options.metrics.status(key, undefined);
  }

  async #write(
    key: WorkspaceKey,
    { status: previous, awaitsStatus = false }: Pick<Extract<Loaded, { kind: 'found' }>, 'status' | 'awaitsStatus'>,
    status: WorkspaceStatus,
    fence: Fence,
    signal: AbortSignal,
  ): Promise<void> {
    this.#options.metrics.status(key, status);
    if (!awaitsStatus && previous !== EMPTY_STATUS && isSameData(previous, status)) {
      this.#stands.set(key, standOf(status));
      return;
    }
    // The deadline that ended a pass must not swallow what it has to say. Who may not write any more is refused by the store.
    const ended = signal.aborted ? new Deadline(this.#options.clock, LAST_WORD_MS, NEVER) : undefined;
    try {
      await this.#options.store.writeStatus({ key, status, fence }, ended?.signal ?? signal);
    } finally {
      ended?.clear();
    }
    this.#stands.set(key, standOf(status));
    // Not before it is written: what the next pass compares with would still be the old one, and it would be told again.
    const transition = transitionBetween(key, previous, status);
    if (transition !== undefined) this.#options.notifier?.notify(transition, fence.authority);
  }

  #measure(pass: Pass): void {
    const { generation, declaredAtMs } = pass.workspace;
    if (this.#measured.get(pass.key) === generation) return;
    // After a restart of ours nobody knows when it first converged; a generation that was Ready before is not measured again.
    const isNew = pass.previous.observedGeneration !== generation;
    this.#measured.set(pass.key, generation);
    if (isNew) this.#options.metrics.converged(Math.max(0, this.#options.clock.now() - declaredAtMs) / 1000);
  }

  #now(): string {
    return new Date(this.#options.clock.now()).toISOString();
  }
}

/**
 * One line when something changed for the workspace, and none while it stays as it is, however often it is tried. Nobody
 * has to be warned of a wait, or of what somebody suspended or holds back on purpose.
 */
function logTransition(logger: Logger, before: WorkspaceStatus, after: WorkspaceStatus): void {
  const [was, is] = [before, after].map(({ conditions }) => findCondition(conditions, 'Ready'));
  if (is === undefined) return;
  const { status, reason, message, observedGeneration } = is;
  if (was?.status === status && was.reason === reason && was.observedGeneration === observedGeneration) return;
  if (status === 'True') return logger.info('ready', { ready: status, reason, message });
  const waits = findCondition(after.conditions, 'Reconciling')?.reason === 'Progressing';
  const isMeant = isIdle(reason) || (reason === after.held?.reason && reason !== 'PruneHeld');
  const level = waits || isMeant ? 'info' : 'warn';
  logger[level]('not ready', { ready: status, reason, message, help: ADVICE[reason] });
}
