import type { ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { WorkspaceStatus } from '../domain/status.ts';

export type ReconcileOutcome = 'success' | 'error' | 'requeue' | 'requeue_after';
export type Phase = 'load' | 'locate' | 'resolve' | 'observe' | 'plan' | 'converge' | 'report';

/** The queue at this moment. */
export interface QueueState {
  /** Ready keys by priority. */
  readonly depth: ReadonlyMap<number, number>;
  /** Keys that are not due yet. */
  readonly delayed: number;
  /** How long the longest waiting ready key has waited. */
  readonly oldestWaitingSeconds: number;
  /** Age of all passes under way, added up, and of the oldest. */
  readonly unfinishedSeconds: number;
  readonly longestRunningSeconds: number;
}

/** One supervised loop at this moment. */
export interface LoopState {
  readonly name: string;
  /** Since it last got somewhere. */
  readonly idleSeconds: number;
  /** No progress for longer than the loop may take; it is being restarted, or does not react to that. */
  readonly stalled: boolean;
  readonly restarts: number;
}

/**
 * Everything plugset counts, in its own words; names, labels and buckets are the adapter's business.
 * Durations are seconds. No label has an unbounded set of values; series per workspace are opt-in and go with it.
 * No method throws.
 */
export interface Metrics {
  /** One pass ended; `error` is set for the outcome `error`, and for a `requeue_after` that waits for something. */
  reconciled(outcome: ReconcileOutcome, seconds: number, error?: ReconcileError): void;
  panicked(): void;
  /** A pass was ended by its deadline. */
  timedOut(): void;
  /** Passes under way, and how many there may be. */
  workers(active: number, limit: number): void;
  phase(phase: Phase, seconds: number): void;
  /** Changes carried out on a target. */
  changed(
    action: 'install' | 'replace' | 'restore' | 'remove' | 'adopt',
    cause: 'intentional' | 'corrective',
    count: number,
  ): void;
  /** From the write of a generation to the pass that found it converged. Once per generation. */
  converged(seconds: number): void;
  artifact(event: 'hit' | 'miss' | 'evicted', bytes: number): void;
  resolved(scheme: string, outcome: 'ok' | 'error', seconds: number): void;
  looked(tier: 'probe' | 'deep', outcome: 'unmoved' | 'looked' | 'unknown'): void;
  /** The newest status of a workspace, for the gauges; `undefined` when it is gone. */
  status(key: WorkspaceKey, status: WorkspaceStatus | undefined): void;
  /** Whoever stops leading knows nothing of the workspaces any more: their gauges go, the next leader has them. */
  leading(isLeader: boolean): void;
  queueAdded(): void;
  queueRetried(): void;
  queueWaited(seconds: number): void;
  worked(seconds: number): void;
  /** Where the gauges of the queue come from, read at each scrape; a later call takes the place of an earlier one. */
  observeQueue(read: () => QueueState): void;
  /** The same for the supervised loops. */
  observeLoops(read: () => readonly LoopState[]): void;
}
