import { z } from 'zod';

import type { StateFolder } from './state-key.ts';

/*
 * What the operator allows one workspace one time, past its declaration, which others may write. Documents of
 * `ControllerState`, so that whoever can write a declaration cannot write them.
 */

/** `approval` of one plan; `takeover` of the target from one authority. */
export type GrantKind = Extract<StateFolder, 'approval' | 'takeover'>;

export const grantSchema = z.object({
  /** The plan's id or the authority, then `@` and when: equal grants are told apart by it. */
  text: z.string(),
  /** User and host. */
  by: z.string(),
  atMs: z.number(),
  /** Generation of the declaration that the operator had before him. */
  generation: z.number().optional(),
});

export type Grant = z.infer<typeof grantSchema>;

/** One that nobody could use by then is not carried out when nobody thinks of it any more. */
const LIFE_MS = 24 * 3_600_000;

export function isExpired({ atMs }: Grant, nowMs: number): boolean {
  // On either side: it is a time of the machine that the command ran on.
  return Math.abs(nowMs - atMs) > LIFE_MS;
}

/** What stands before the `@`. */
export function subjectOf(text: string): string {
  return text.split('@', 1)[0] ?? '';
}
