import { z } from 'zod';

/*
 * What is remembered for the whole fleet, as small documents of `ControllerState`.
 */

/** There while the fleet is paused: nothing is changed on any target. */
export const PAUSE_KEY = 'fleet/pause';

export const pauseSchema = z.object({
  /** ISO time. */
  since: z.string(),
  /** User and host. */
  by: z.string(),
  /** For people; may be empty. */
  reason: z.string(),
});

export type Pause = z.infer<typeof pauseSchema>;

/** Workspaces that lost all their plugins within the last hour. */
export const EMPTIED_KEY = 'fleet/emptied';

export const emptiedSchema = z.array(z.object({ workspace: z.string(), atMs: z.number() }));
