import { z } from 'zod';

/**
 * Why a workspace waits for its next pass: it is time to look again · its restart is due · it failed and is tried again · it waits for
 * something, and this is for a missed event · only a person can help, and this is in case one did · everything is looked
 * at now and then.
 */
const waitCauseSchema = z.enum(['look', 'restart', 'retry', 'wait', 'reprobe', 'resync']);
export type WaitCause = z.infer<typeof waitCauseSchema>;

/** Where a workspace is in the queue; `absent`: only an event brings it up. */
const queuePlaceSchema = z.discriminatedUnion('state', [
  z.object({ state: z.enum(['working', 'ready', 'absent']) }),
  z.object({ state: z.literal('delayed'), inMs: z.number(), cause: waitCauseSchema }),
]);
export type QueuePlace = z.infer<typeof queuePlaceSchema>;

/** What the daemon that leads answers when it is asked for the next pass over a workspace. Nobody else knows. */
export const wakeUpSchema = z.object({
  /** Whose turn it is: the controller of another store knows nothing. */
  authority: z.string(),
  queue: queuePlaceSchema,
  /** In a row. */
  failures: z.number(),
  /** Until every file is looked at again; left out: in the next pass. */
  deepInMs: z.number().optional(),
});
export type WakeUp = z.infer<typeof wakeUpSchema>;

/** `undefined`: the text is no such answer. */
export function parseWakeUp(body: string): WakeUp | undefined {
  try {
    return wakeUpSchema.safeParse(JSON.parse(body)).data;
  } catch {
    return undefined;
  }
}
