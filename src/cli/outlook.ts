import { ADVICE } from '../domain/advice.ts';
import { findCondition, type Condition } from '../domain/condition.ts';
import type { Reason } from '../domain/reason.ts';
import type { Hold, PluginStatus, WorkspaceStatus } from '../domain/status.ts';
import { REQUESTED_AT_ANNOTATION, targetKind, type Policy } from '../domain/workspace.ts';
import type { LeaseHolder } from '../ports/leadership.ts';
import { isDeletionStuck } from './readiness.ts';
import { intervalsLine, wakeUpLines, type Schedule } from './wake-up.ts';
import { keyOf, type Declared } from './workspaces.ts';

/** What becomes of a workspace if nobody does anything, and what somebody could do. */
export interface Outlook {
  readonly next: readonly string[];
  /** Empty: nobody has to do anything. */
  readonly advice: readonly string[];
}

type Found = Extract<Declared, { kind: 'found' }>;

/** Reads the outlook from status, lease and schedule, by the kstatus rules: what a program would conclude, in words. Pure. */
export function outlookOf(declared: Declared, holder: LeaseHolder | undefined, schedule: Schedule): Outlook {
  const outlook = outlookUnderLead(declared, schedule);
  if (holder?.isLeading === true)
    return isLookedAt(declared) ? { ...outlook, next: [...wakeUpLines(schedule), ...outlook.next] } : outlook;
  return {
    next: ['Nothing, while no controller is running. Once one is:', ...outlook.next],
    advice: [
      `Start \`plugset run\` on this store, or make a single pass with \`plugset once ${keyOf(declared)}\`.`,
      ...outlook.advice,
    ],
  };
}

/** Whether a pass over it does more than to say that it does nothing. */
function isLookedAt(declared: Declared): boolean {
  if (declared.kind === 'malformed') return false;
  const { suspend, target } = declared.workspace;
  return !suspend && targetKind(target) !== 'external';
}

function outlookUnderLead(declared: Declared, schedule: Schedule): Outlook {
  if (declared.kind === 'malformed') {
    return {
      next: ['Nothing, until the declaration can be used; what is installed stays as it is.'],
      advice: ['Correct what is listed under Problems; `plugset validate FILE` checks a file.'],
    };
  }
  const { workspace, status } = declared;
  const ready = findCondition(status.conditions, 'Ready');
  if (ready === undefined) return { next: ['The controller makes the first pass within moments.'], advice: [SEE_LOG] };
  if (workspace.deleting) return deleting(declared, ready);
  if (workspace.suspend) return suspended();
  if (ready.observedGeneration < workspace.generation) return outdated(workspace.generation);
  const outlook = settled(declared, ready, schedule);
  const asked = workspace.annotations[REQUESTED_AT_ANNOTATION];
  if (asked === undefined || asked === status.lastHandledReconcileAt) return outlook;
  return { ...outlook, next: [`A pass was asked for (${asked}) and has not been made yet.`, ...outlook.next] };
}

const SEE_LOG = 'If this does not change within a minute, read the log of the controller.';

function suspended(): Outlook {
  return {
    next: ['Nothing: spec.suspend is true, so nothing is looked at or changed.'],
    advice: [ADVICE.Suspended],
  };
}

function outdated(generation: number): Outlook {
  return {
    next: [
      `The controller takes generation ${generation} up within moments; what is shown here is about an older one.`,
    ],
    advice: [SEE_LOG],
  };
}

function deleting(declared: Found, ready: Condition): Outlook {
  const { key, policy } = declared.workspace;
  const what =
    policy.deletion === 'Remove'
      ? 'The controller takes away what plugset installed on the target, then forgets the workspace.'
      : 'The controller leaves the target as it is (policy.deletion: Orphan) and forgets the workspace.';
  if (!isDeletionStuck(declared)) return { next: [what], advice: [SEE_LOG] };
  return {
    next: [what, `That did not work yet: ${ready.reason}. It is tried again.`],
    advice: [ADVICE[ready.reason], tryAgain(key)],
  };
}

/** The report is about what is declared now: Stalled before Reconciling before Ready. */
function settled(declared: Found, ready: Condition, schedule: Schedule): Outlook {
  const { status, workspace } = declared;
  if (ready.reason === 'Pull') {
    return { next: ['An external workspace fetches for itself; plugset never looks at it.'], advice: [] };
  }
  const { held } = status;
  if (held !== undefined && held.reason === ready.reason) {
    return {
      next: [`${WAITS}${held.changes.join(', ')}.`, ...restartNext(status)],
      advice: [ADVICE[held.reason]],
    };
  }
  const advice = [
    ...adviceFor(status, ready.reason),
    ...(held === undefined ? [] : [ADVICE[held.reason]]),
    tryAgain(workspace.key),
  ];
  if (findCondition(status.conditions, 'Stalled') !== undefined)
    return { next: stalledNext(status, ready.reason, schedule), advice };
  const reconciling = findCondition(status.conditions, 'Reconciling');
  if (reconciling?.reason === 'ProgressingWithRetry') return { next: [`It is ${RETRIED}.`], advice };
  if (reconciling !== undefined) {
    return {
      next: ['It waits for that to change and then goes on by itself; it looks every few minutes at the latest.'],
      advice: adviceFor(status, ready.reason),
    };
  }
  return asDeclared(declared, schedule);
}

/** Who agrees to a change is told before that a restart comes with it. */
function restartNext({ held, target }: WorkspaceStatus): readonly string[] {
  return held?.restart?.follows === true ? [`Once that is carried out, ${target} is restarted.`] : [];
}

const WAITS = 'It goes on being looked at, and until somebody has acted this waits: ';

const RETRIED = 'tried again by itself, after 1 s at first and 5 min at most, and at once after an edit';

/** Of a workspace with bad plugins the rest is looked after as ever; one that cannot be worked on at all waits long. */
function stalledNext(status: WorkspaceStatus, reason: Reason, { wakeUp }: Schedule): readonly string[] {
  const stalled = status.plugins.filter((plugin) => plugin.stalled === true);
  const retried = status.plugins.filter((plugin) => isRetried(plugin, status.held));
  if (!stalled.some((plugin) => plugin.reason === reason)) {
    // Who was told when the next pass is needs no guess beside it.
    const when = wakeUp === undefined ? 'about every 30 min' : 'now and then';
    return [
      `Trying again would not help before a person has acted: it is looked at only ${when}, and at once after an edit.`,
    ];
  }
  return [
    `${namesOf(stalled)}: nothing, until a person has acted; trying again would not help.`,
    ...(retried.length === 0 ? [] : [`${namesOf(retried)}: ${RETRIED}.`]),
    elseOf(status.held),
  ];
}

/** What waits besides shows in no condition, so what it waits for is told here. */
function elseOf(held: Hold | undefined): string {
  if (held === undefined) return 'Everything else of it is looked at and kept as declared.';
  return `${WAITS}${held.changes.join(', ')}: ${held.message}`;
}

function isRetried({ state, stalled, reason }: PluginStatus, held: Hold | undefined): boolean {
  return stalled !== true && reason !== held?.reason && (state === 'Failed' || state === 'Pending');
}

/** Who needs a person comes first. The workspace's own reason, if it is not that of a plugin, before all of them. */
function adviceFor({ plugins, held }: WorkspaceStatus, reason: Reason): readonly string[] {
  const troubled = [
    ...plugins.filter(({ stalled }) => stalled === true),
    ...plugins.filter((plugin) => isRetried(plugin, held)),
  ];
  const reasons = new Set(troubled.map((plugin) => plugin.reason));
  const lines = [...reasons].map(
    (one) => `${namesOf(troubled.filter((plugin) => plugin.reason === one))}: ${ADVICE[one]}`,
  );
  return reasons.has(reason) ? lines : [ADVICE[reason], ...lines];
}

function namesOf(plugins: readonly PluginStatus[]): string {
  return plugins.map((plugin) => plugin.name).join(', ');
}

function tryAgain(key: string): string {
  return `\`plugset reconcile ${key} --wait\` tries again at once.`;
}

function asDeclared({ status, workspace }: Found, schedule: Schedule): Outlook {
  const activation = findCondition(status.conditions, 'ActivationPending');
  const next = [
    ...(activation === undefined ? [] : [`${activation.reason}: ${activation.message}.`]),
    intervalsLine(schedule, 'ssh' in workspace.target || 'ec2' in workspace.target),
    driftOutlook(workspace.policy),
  ];
  const held = status.plugins.filter((plugin) => plugin.state === 'Held' || plugin.state === 'Drifted');
  const restart = activation === undefined || activation.reason === 'RestartPending' ? [] : [ADVICE[activation.reason]];
  return { next, advice: [...restart, ...held.map((plugin) => `${plugin.name}: ${ADVICE[plugin.reason]}`)] };
}

/** What becomes of edits on the target: where drift is to be undone, the mode still has its say. */
function driftOutlook({ drift, mode }: Policy): string {
  return drift === 'Enforce' ? ENFORCED[mode] : LEFT[drift];
}

const ENFORCED: Readonly<Record<Policy['mode'], string>> = {
  Apply: 'Edits of an installed plugin on the target are undone by the look that finds them (policy.drift: Enforce).',
  Plan: 'Edits of an installed plugin on the target are undone once that is approved (policy.mode: Plan).',
  Observe: 'Edits on the target are reported and left (policy.mode: Observe).',
};

const LEFT: Readonly<Record<Exclude<Policy['drift'], 'Enforce'>, string>> = {
  Warn: 'Edits on the target are reported and left (policy.drift: Warn).',
  Off: 'Edits on the target are left (policy.drift: Off).',
};
