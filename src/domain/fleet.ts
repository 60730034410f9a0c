import { z } from 'zod';

import { stateKey } from './state-key.ts';

/*
 * What is remembered of the last hour and for the whole fleet, as small documents of `ControllerState`.
 */

/** There while the fleet is paused: nothing is changed on any target. */
export const PAUSE_KEY = stateKey('fleet', 'pause');

export const pauseSchema = z.object({
  /** ISO time. */
  since: z.string(),
  /** User and host. */
  by: z.string(),
  /** For people; may be empty. */
  reason: z.string(),
});

export type Pause = z.infer<typeof pauseSchema>;

/** What a document under {@link PAUSE_KEY} says, for people. */
export function describePause(value: unknown): string {
  return `the fleet is paused${pauseOrigin(value)}: nothing is changed on any target; \`plugset resume\` goes on`;
}

/** ` by ann@host since …`, to be said after the pause; empty where the document does not tell. */
export function pauseOrigin(value: unknown): string {
  const { data } = pauseSchema.safeParse(value);
  if (data === undefined) return '';
  return ` by ${data.by} since ${data.since}${data.reason === '' ? '' : ` (${data.reason})`}`;
}

/** Workspaces that lost all their plugins within the last hour: of each namespace that had some, one. */
export const EMPTIED_KEY = stateKey('fleet', 'emptied');

/** The same of one namespace, each of them. */
export function emptiedKey(namespace: string): string {
  return stateKey('emptied', namespace);
}

export const emptiedSchema = z.array(z.object({ workspace: z.string(), atMs: z.number() }));

/** How many plugins were removed in the whole fleet within the last hour, a count for each minute with any. */
export const REMOVED_KEY = stateKey('fleet', 'removed');

export const removedSchema = z.array(z.object({ plugins: z.number(), atMs: z.number() }));

/** What was taken away from one workspace within the last hour without anybody's word on it. */
export const removalsSchema = z.array(
  z.object({
    plugin: z.string(),
    atMs: z.number(),
    /** Nobody had seen it declared: the target alone said that it was plugset's. */
    stranger: z.literal(true).optional(),
  }),
);

export type Removals = z.infer<typeof removalsSchema>;

const HOUR_MS = 3_600_000;

/** On either side: what a clock has written that was years ahead must not hold everything back until then. */
export function isWithinHour(atMs: number, nowMs: number): boolean {
  return Math.abs(nowMs - atMs) < HOUR_MS;
}
