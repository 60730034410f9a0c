import { ADVICE } from '../domain/advice.ts';
import type { Reason } from '../domain/reason.ts';

/** A line for each reason, in the order in which they first came up; nothing where there is none. */
export function formatAdviceOn(reasons: readonly Reason[]): string {
  if (reasons.length === 0) return '';
  const lines = [...new Set(reasons)].map((reason) => `  ${reason}: ${ADVICE[reason]}\n`);
  return `\nWhat to do\n${lines.join('')}`;
}
