import type { LeaseHolder } from '../ports/leadership.ts';
import { formatAge } from './age.ts';

/**
 * What makes the word of a store old: nobody leads, so nobody looks at targets. `undefined` while somebody does. A status
 * is written only when it changes, so its own times do not tell.
 */
export function describeAbsence(holder: LeaseHolder | undefined, nowMs: number): string | undefined {
  if (holder === undefined) return 'no controller has ever run on this store: no target was looked at';
  if (holder.isLeading) return undefined;
  const { name, until } = holder;
  return `no controller is running: what is shown is as of ${formatAge(until, nowMs)} ago, when ${name} ended`;
}
