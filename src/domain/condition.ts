import type { Reason } from './reason.ts';
import { statusText } from './text.ts';

/**
 * Condition types, in the order in which they are shown. `Ready` and `Reachable` are always there once a pass has ended; the
 * others are present only when True, because kstatus and `kubectl wait` read a present `Reconciling=False` as noise and an
 * absent one as done.
 */
const CONDITION_TYPES = [
  'Ready',
  'Reconciling',
  'Stalled',
  'Reachable',
  'Drifted',
  'ActivationPending',
  'LeftBehind',
  'PolicyOverruled',
] as const;

export type ConditionType = (typeof CONDITION_TYPES)[number];

export interface Condition {
  readonly type: ConditionType;
  readonly status: 'True' | 'False' | 'Unknown';
  readonly reason: Reason;
  /** At most 1 KiB, fit for a terminal, without times or counts that change by themselves. */
  readonly message: string;
  /** The generation this was concluded for. `kubectl wait` compares it before it believes the status. */
  readonly observedGeneration: number;
  /** ISO time at which `status` last changed; a new reason or message does not move it. */
  readonly lastTransitionTime: string;
}

export type NewCondition = Omit<Condition, 'lastTransitionTime'>;

/**
 * The complete new list: a type that `next` does not mention is gone. `lastTransitionTime` is carried over while the
 * status of a type stays the same.
 */
export function mergeConditions(
  previous: readonly Condition[],
  next: readonly NewCondition[],
  now: string,
): readonly Condition[] {
  return next
    .toSorted((a, b) => CONDITION_TYPES.indexOf(a.type) - CONDITION_TYPES.indexOf(b.type))
    .map((condition) => {
      const before = previous.find((old) => old.type === condition.type);
      return {
        ...condition,
        message: statusText(condition.message),
        lastTransitionTime: before?.status === condition.status ? before.lastTransitionTime : now,
      };
    });
}

export function findCondition(conditions: readonly Condition[], type: ConditionType): Condition | undefined {
  return conditions.find((condition) => condition.type === type);
}
