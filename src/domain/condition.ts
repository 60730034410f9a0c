import { z } from 'zod';

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

/**
 * A text whose values only we write. The schema of a status does not list them: one that a newer version has learnt would
 * have a whole status refused where an older schema is still in force.
 */
export function ourWord<T extends string>(): z.ZodType<T> {
  return z.string() as unknown as z.ZodType<T>;
}

/** ISO time. */
export const timeSchema = z.string().meta({ format: 'date-time' });

export const conditionSchema = z
  .object({
    type: ourWord<ConditionType>().describe(
      `What is said: ${CONDITION_TYPES.join(', ')}. Ready and Reachable are always there once a pass has ended, the others only while they are True.`,
    ),
    status: z.enum(['True', 'False', 'Unknown']).describe('Whether it is so.'),
    reason: ourWord<Reason>().describe('Why, in one word of a closed list (README, "Conditions and reasons").'),
    // At most 1 KiB, fit for a terminal, without times or counts that change by themselves.
    message: z.string().describe('Why, for people.'),
    // `kubectl wait` compares it before it believes the status.
    observedGeneration: z.int().describe('Generation of the declaration that this was concluded for.'),
    lastTransitionTime: timeSchema.describe('When its status last changed; a new reason or message does not move it.'),
  })
  .readonly();

export type Condition = z.infer<typeof conditionSchema>;

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
