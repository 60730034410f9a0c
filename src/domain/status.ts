import { z } from 'zod';

import { conditionSchema, ourWord, timeSchema } from './condition.ts';
import type { Digest } from './digest.ts';
import type { PluginName } from './name.ts';
import type { Reason } from './reason.ts';

/*
 * What is known of a workspace, as its status says it. The descriptions are documentation: `kubectl explain` prints them.
 * The schema describes what we write, and limits nothing: a status that is refused would be refused in every pass.
 */

/**
 * State of one plugin:
 * `Installed` as declared · `Pending` declared, not there yet · `Drifted` there, not as declared, and not corrected
 * (policy) · `Failed` the last attempt failed · `Removing` not declared, going · `Held` not declared, policy keeps it ·
 * `Unmanaged` not ours · `Unknown` could not look.
 */
export type PluginState =
  | 'Installed'
  | 'Pending'
  | 'Drifted'
  | 'Failed'
  | 'Removing'
  | 'Held'
  | 'Unmanaged'
  | 'Unknown';

const pluginStatusSchema = z
  .object({
    name: ourWord<PluginName>().describe('Directory under plugins/; its identity.'),
    state: ourWord<PluginState>().describe(
      'Installed: as declared. Pending: declared, not there yet. Drifted: there, not as declared, and left so. ' +
        'Failed: the last attempt failed. Removing: not declared, going. Held: not declared, policy keeps it. ' +
        'Unmanaged: not installed by plugset. Unknown: nobody could look.',
    ),
    managed: z.boolean().describe('Whether plugset has installed or adopted it.'),
    source: z.string().describe('Where it comes from, as declared.').optional(),
    revision: z
      .string()
      .describe(
        'What the source stood for: a commit or a digest. While nobody can look, the last one seen; see seenAt.',
      )
      .optional(),
    // Never what we merely sent.
    digest: ourWord<Digest>().describe('Tree that the last look found whole on the target.').optional(),
    version: z
      .string()
      .describe('Version that its plugin.yaml tells. While nobody can look, the last one seen; see seenAt.')
      .optional(),
    reason: ourWord<Reason>().describe('Why it is in this state, in one word of a closed list.'),
    message: z.string().describe('Why it is in this state, for people.'),
    stalled: z
      .literal(true)
      .describe('Only when true: trying again cannot help, a person has to change something.')
      .optional(),
    seenAt: timeSchema.describe('Only while nobody can look: when revision and version were still seen.').optional(),
    since: timeSchema.describe('Since when state and reason are what they are.'),
  })
  .readonly();

export type PluginStatus = z.infer<typeof pluginStatusSchema>;

const historyEntrySchema = z
  .object({
    planId: z.string().describe('The plan that was carried out.'),
    outcome: ourWord<'Succeeded' | 'Failed' | 'Partial' | 'Unknown' | 'Voided'>().describe(
      'How it ended: Succeeded, Failed, Partial, Unknown (the connection broke) or Voided (no longer what is to be done).',
    ),
    // `installed superpowers v4.1.0 (0123456789ab), removed old v1 (…)`; no times, no counts that move.
    summary: z.string().describe('What was done, in words.'),
    firstAt: timeSchema.describe('When it was done first.'),
    lastAt: timeSchema.describe('When it was done last.'),
    times: z.int().describe('How often it was done in a row.'),
  })
  .readonly();

export type HistoryEntry = z.infer<typeof historyEntrySchema>;

/** Why planned changes are not carried out now. */
export type HoldReason = Extract<Reason, 'ObserveOnly' | 'AwaitingApproval' | 'Paused' | 'PruneHeld'>;

/** The files are in place, and the runtime has not taken them up. */
export interface PendingActivation {
  readonly reason: Extract<
    Reason,
    'RestartPending' | 'RestartDeferred' | 'RestartRepeated' | 'RestartFailed' | 'RestartNever' | 'NotDurable'
  >;
  readonly message: string;
}

const FOLLOWS = 'Whether a restart follows.';

const restartForecastSchema = z
  .union([
    z.object({ follows: z.literal(true).describe(FOLLOWS) }).readonly(),
    z
      .object({
        follows: z.literal(false).describe(FOLLOWS),
        reason: ourWord<Extract<PendingActivation['reason'], 'RestartNever' | 'NotDurable'>>().describe(
          'Why none does, in one word: RestartNever or NotDurable.',
        ),
        message: z.string().describe('Why none does, for people.'),
      })
      .readonly(),
  ])
  .describe('What follows the changes for the runtime, where there is one that could be restarted.');

/** Whether a restart follows a change: who agrees to the change agrees to that as well. */
export type RestartForecast = z.infer<typeof restartForecastSchema>;

const holdSchema = z
  .object({
    reason: ourWord<HoldReason>().describe('What holds them: ObserveOnly, AwaitingApproval, Paused or PruneHeld.'),
    message: z.string().describe('What would let them go.'),
    why: z.string().describe('Which guard holds, where one does: told for as long as it holds.').optional(),
    changes: z.array(z.string()).readonly().describe('The changes in words, in the order of the plan.'),
    restart: restartForecastSchema.optional(),
  })
  .readonly()
  .describe('Changes that are not carried out, and what lets them go.');

/** Changes that are not carried out, and what lets them go. */
export type Hold = z.infer<typeof holdSchema>;

const leftBehindSchema = z
  .object({
    place: z.string().describe('What the place is called.'),
    reason: ourWord<Reason>().describe('Why it lies there still, in one word of a closed list.'),
    message: z.string().describe('Why it lies there still, for people.'),
  })
  .readonly();

/** A place where the workspace had its plugins before, and where what plugset installed still lies. */
export type LeftBehind = z.infer<typeof leftBehindSchema>;

export const workspaceStatusSchema = z
  .object({
    observedGeneration: z
      .int()
      .describe('Last generation that a pass carried to Ready or Stalled; -1 before the first.'),
    conditions: z
      .array(conditionSchema)
      .readonly()
      .describe('What is the case now, by the rules of kstatus; a map list with the key type.'),
    summary: z.string().describe('5/6: declared plugins that are installed / declared; ?/6 while nobody can look.'),
    target: z.string().describe('What the target is called, for tables.'),
    plugins: z
      .array(pluginStatusSchema)
      .readonly()
      .describe('Every plugin that is declared or was seen; a map list with the key name.'),
    // What is on the target is never concluded from it.
    converged: z
      .record(z.string(), ourWord<Digest>())
      .readonly()
      .describe(
        'Tree each plugin had when a look last found it as declared, until it is gone. Tells a repair from a new declaration.',
      ),
    planId: z.string().describe('Id of the newest plan: what was to be done when somebody last looked.').optional(),
    held: holdSchema.optional(),
    pruneHeldSince: timeSchema
      .describe('Since when a guard holds removals back; until they are approved, or no longer planned.')
      .optional(),
    // A hint which saves a question to the store in every pass.
    place: z.string().describe('Mark of the place that is known to be remembered.').optional(),
    leftBehind: z
      .array(leftBehindSchema)
      .readonly()
      .describe('Former places where what plugset installed still lies; never empty.')
      .optional(),
    history: z
      .array(historyEntrySchema)
      .readonly()
      .describe('The five newest changes, equal neighbours folded into one with a count.'),
    lastHandledReconcileAt: z
      .string()
      .describe('The value of the annotation plugset.dev/requestedAt that was answered last.')
      .optional(),
    lastHandledApproval: z.string().describe('The newest approval that was carried out or has become void.').optional(),
    lastHandledTakeover: z
      .string()
      .describe('The newest takeover that was carried out, or found nothing to take over.')
      .optional(),
    corrective: z.int().describe('Repairs of drift that were carried out since the workspace is known.'),
    intentional: z.int().describe('Changes of the declaration that were carried out since the workspace is known.'),
  })
  .readonly()
  .describe('What plugset has found and done.');

export type WorkspaceStatus = z.infer<typeof workspaceStatusSchema>;

export const EMPTY_STATUS: WorkspaceStatus = {
  observedGeneration: -1,
  conditions: [],
  summary: '0/0',
  target: '',
  plugins: [],
  converged: {},
  history: [],
  corrective: 0,
  intentional: 0,
};
