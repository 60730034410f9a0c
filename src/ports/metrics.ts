import type { WorkspaceKey } from '../domain/name.ts';
import type { WorkspaceStatus } from '../domain/status.ts';

export type ReconcileOutcome = 'success' | 'error' | 'requeue' | 'requeue_after';
export type Phase = 'load' | 'locate' | 'resolve' | 'observe' | 'plan' | 'converge' | 'report';

/**
 * Everything plugset counts, in its own words; names, labels and buckets are the adapter's business.
 * Durations are seconds. No label has an unbounded set of values; series per workspace are opt-in and go with it.
 */
export interface Metrics {
  /** One pass ended. `errorClass` is set for `error`. */
  reconciled(outcome: ReconcileOutcome, seconds: number, reason: string, terminal: boolean): void;
  panicked(): void;
  phase(phase: Phase, seconds: number): void;
  /** Changes carried out on a target. */
  changed(action: 'install' | 'replace' | 'restore' | 'remove' | 'adopt', cause: 'intentional' | 'corrective', count: number): void;
  /** From the write of a generation to the pass that found it converged. Once per generation. */
  converged(seconds: number): void;
  artifact(event: 'hit' | 'miss' | 'evicted', bytes: number): void;
  resolved(scheme: string, outcome: 'ok' | 'error', seconds: number): void;
  looked(tier: 'probe' | 'deep', outcome: 'unmoved' | 'looked' | 'unknown'): void;
  /** The newest status of a workspace, for the gauges; `undefined` when it is gone. */
  status(key: WorkspaceKey, status: WorkspaceStatus | undefined): void;
  leading(isLeader: boolean): void;
  queueAdded(): void;
  queueRetried(): void;
  queueWaited(seconds: number): void;
  worked(seconds: number): void;
}
