import { findCondition, type Condition } from '../domain/condition.ts';
import { REASONS } from '../domain/reason.ts';
import { REQUESTED_AT_ANNOTATION, type Policy } from '../domain/workspace.ts';
import { keyOf, type Declared } from './workspaces.ts';

/** What becomes of a workspace if nobody does anything, and what somebody could do. */
export interface Outlook {
  readonly next: readonly string[];
  /** Empty: nobody has to do anything. */
  readonly advice: readonly string[];
}

/** Reads the outlook from the conditions alone, by the kstatus rules: what a program would conclude, in words. Pure. */
export function outlookOf(declared: Declared): Outlook {
  const key = keyOf(declared);
  if (declared.kind === 'malformed') {
    return {
      next: ['Nothing, until the declaration can be used; what is installed stays as it is.'],
      advice: ['Correct what is listed under Problems; `plugset validate FILE` checks a file.'],
    };
  }
  const { workspace, status } = declared;
  const ready = findCondition(status.conditions, 'Ready');
  if (ready === undefined) return unseen(key);
  if (workspace.suspend) return suspended();
  if (workspace.deleting) return deleting(key, ready, workspace.generation, workspace.policy);
  if (ready.observedGeneration < workspace.generation) return outdated(workspace.generation);
  const outlook = settled(declared, ready);
  const asked = workspace.annotations[REQUESTED_AT_ANNOTATION];
  if (asked === undefined || asked === status.lastHandledReconcileAt) return outlook;
  return { ...outlook, next: [`A pass was asked for (${asked}) and has not been made yet.`, ...outlook.next] };
}

const IS_A_DAEMON_RUNNING = 'If this does not change within a minute: is `plugset run` running on this store?';

function unseen(key: string): Outlook {
  return {
    next: ['A running daemon makes the first pass within moments.'],
    advice: [`${IS_A_DAEMON_RUNNING} \`plugset once ${key}\` makes a single pass without one.`],
  };
}

function suspended(): Outlook {
  return {
    next: ['Nothing: spec.suspend is true, so nothing is looked at or changed.'],
    advice: ['Set spec.suspend to false when plugset should go on.'],
  };
}

function outdated(generation: number): Outlook {
  return {
    next: [
      `A running daemon takes generation ${generation} up within moments; what is shown here is about an older one.`,
    ],
    advice: [IS_A_DAEMON_RUNNING],
  };
}

function deleting(key: string, ready: Condition, generation: number, policy: Policy): Outlook {
  const what =
    policy.deletion === 'Remove'
      ? 'The daemon takes away what plugset installed on the target, then forgets the workspace.'
      : 'The daemon leaves the target as it is (policy.deletion: Orphan) and forgets the workspace.';
  const isStuck = ready.status !== 'True' && ready.observedGeneration >= generation;
  if (!isStuck) return { next: [what], advice: [IS_A_DAEMON_RUNNING] };
  return {
    next: [what, `That did not work yet: ${ready.reason}. It is tried again.`],
    advice: [REASONS[ready.reason], `\`plugset reconcile ${key} --wait\` tries again at once.`],
  };
}

/** The report is about what is declared now: Stalled before Reconciling before Ready. */
function settled(declared: Extract<Declared, { kind: 'found' }>, ready: Condition): Outlook {
  const { status, workspace } = declared;
  const again = `\`plugset reconcile ${workspace.key} --wait\` tries again at once.`;
  if (ready.reason === 'Pull') {
    return { next: ['An external workspace fetches for itself; plugset never looks at it.'], advice: [] };
  }
  if (findCondition(status.conditions, 'Stalled') !== undefined) {
    return {
      next: ['Trying again would not help, so it is only looked at now and then, and at once after an edit.'],
      advice: [REASONS[ready.reason], again],
    };
  }
  const reconciling = findCondition(status.conditions, 'Reconciling');
  if (reconciling?.reason === 'ProgressingWithRetry') {
    return {
      next: ['It is tried again by itself, after 1 s at first and 5 min at most, and at once after an edit.'],
      advice: [REASONS[ready.reason], again],
    };
  }
  if (reconciling !== undefined) {
    return { next: ['It waits for that to change and then goes on by itself.'], advice: [REASONS[ready.reason]] };
  }
  return asDeclared(declared);
}

function asDeclared({ status, workspace }: Extract<Declared, { kind: 'found' }>): Outlook {
  const next = [DRIFT_OUTLOOK[workspace.policy.drift]];
  const held = status.plugins.filter((plugin) => plugin.state === 'Held' || plugin.state === 'Drifted');
  if (held.length === 0) return { next, advice: [] };
  const names = held.map((plugin) => plugin.name).join(', ');
  return { next, advice: [`Policy holds a change back for ${names}; change spec.policy to let it go ahead.`] };
}

const DRIFT_OUTLOOK: Readonly<Record<Policy['drift'], string>> = {
  Enforce:
    'It is looked at again and again; whoever edits an installed plugin on the target sees it restored (policy.drift: Enforce).',
  Warn: 'It is looked at again and again; edits on the target are reported and left (policy.drift: Warn).',
  Off: 'It is looked at again and again; edits on the target are left (policy.drift: Off).',
};
