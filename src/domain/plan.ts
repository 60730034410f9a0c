import { canonicalJson, sha256, shortDigest, type Digest } from './digest.ts';
import { terminal, type ReconcileError } from './errors.ts';
import type { PluginName, WorkspaceKey } from './name.ts';
import type { Observation, ObservedPlugin, PluginManifest } from './observation.ts';
import { settingsStep, type DesiredSettings, type ObservedSettings, type SettingsStep } from './plugin-settings.ts';
import { isSameRuntime } from './profile.ts';
import type { Reason } from './reason.ts';
import type { PluginState } from './status.ts';
import type { TreeLists } from './tree.ts';
import type { Policy } from './workspace.ts';

/** A declared plugin after its source was asked: the exact tree, or why there is none. */
export type DesiredPlugin =
  | {
      readonly kind: 'resolved';
      readonly name: PluginName;
      readonly source: string;
      readonly origin: string;
      readonly revision: string;
      readonly digest: Digest;
      readonly lists: TreeLists;
      readonly manifest: PluginManifest;
      /** The source could not be asked lately; `revision` is what it said last. */
      readonly stale?: ReconcileError | undefined;
      /** Absent: it is declared without any, and those that plugset has delivered go. */
      readonly settings?: DesiredSettings | undefined;
    }
  | {
      readonly kind: 'unresolved';
      readonly name: PluginName;
      readonly source: string;
      readonly origin: string;
      readonly error: ReconcileError;
    };

export type ResolvedPlugin = Extract<DesiredPlugin, { kind: 'resolved' }>;

/**
 * `restore` brings back what was there, `replace` brings something new; `adopt` moves no bytes. `configure` is about the
 * settings of a plugin alone; those of one whose tree is changed go along with that.
 */
export type PlanAction = 'install' | 'replace' | 'restore' | 'adopt' | 'configure' | 'remove';

/** What people call a tree. Its content is told by its digest alone. */
export interface TreeLabel {
  readonly revision?: string | undefined;
  /** As its manifest states it. */
  readonly version?: string | undefined;
  /** It lies on the target, and plugset did not put it there. */
  readonly isForeign?: true | undefined;
}

export interface PlanEntry {
  readonly action: PlanAction;
  readonly plugin: PluginName;
  /** `corrective` undoes a change made on the target, `intentional` carries out a change of the declaration. */
  readonly cause: 'corrective' | 'intentional';
  /** Which declaration asked for it. */
  readonly origin: string;
  readonly from?: Digest | undefined;
  readonly to?: Digest | undefined;
  /** What `from` and `to` are called; like `origin` for people, and no part of the plan's id. */
  readonly labels: { readonly from?: TreeLabel | undefined; readonly to?: TreeLabel | undefined };
  /** Listed paths that made a `restore` necessary. */
  readonly differing: readonly string[];
  /** What becomes of the file with its settings. Absent: it stays as it is. */
  readonly settings?: 'write' | 'remove' | undefined;
}

/** Ordered changes from observed to desired. Pure data: equal inputs give an equal plan with an equal id. */
export interface Plan {
  /**
   * Digest of target, desired, observed, policy and the changes themselves, without times, labels and origins. Equal ids
   * mean equal changes on the same target, so that whoever approves an id approves just these.
   */
  readonly id: Digest;
  readonly entries: readonly PlanEntry[];
}

/** What the planner concluded about one plugin, entry or not. */
export interface Verdict {
  readonly name: PluginName;
  readonly state: PluginState;
  readonly reason: Reason;
  readonly message: string;
  readonly managed: boolean;
  /** Error behind a `Failed` state: says whether trying again can help. */
  readonly error?: ReconcileError | undefined;
}

export interface PlanInput {
  readonly workspace: WorkspaceKey;
  /** Identity of what is changed; only equality means anything. */
  readonly target: string;
  readonly runtime: string;
  /** Declared plugins; for a workspace that is being deleted, none. */
  readonly desired: readonly DesiredPlugin[];
  readonly observation: Observation;
  readonly policy: Policy;
  /** Tree each plugin had when it was last seen converged; tells drift from a new declaration and nothing else. */
  readonly lastConverged: ReadonlyMap<PluginName, Digest>;
  /** Workspaces that receipts on the target name, and that nobody declares there any more. */
  readonly formerOwners: ReadonlySet<string>;
  /** User on the target who writes; left out: the owner of the config directory. */
  readonly writerUid?: number | undefined;
}

export interface Planned {
  readonly plan: Plan;
  readonly verdicts: readonly Verdict[];
}

interface Decision {
  readonly verdict: Verdict;
  readonly entry?: PlanEntry;
}

/** Works out the difference. Removals come first, so that a swap of two names never holds both trees at once. */
export function planChanges(input: PlanInput): Planned {
  const observed = new Map(input.observation.plugins.map((plugin) => [plugin.name, plugin]));
  const declared = new Set(input.desired.map((plugin) => plugin.name));
  const withoutPlugin = (input.observation.settings ?? [])
    .map(({ name }) => name)
    .filter((name) => !declared.has(name) && !observed.has(name));
  const decisions = [
    ...input.observation.plugins
      .filter((plugin) => !declared.has(plugin.name))
      .map((plugin) => withoutSettings(decideUndeclared(plugin, input.policy), plugin.name, input)),
    ...withoutPlugin.flatMap((name) => decideLeftSettings(name, input) ?? []),
    ...input.desired.map((plugin) =>
      withSettings(decideDeclared(plugin, observed.get(plugin.name), input), plugin, input),
    ),
  ];
  const entries = decisions.flatMap((decision) => decision.entry ?? []);
  return {
    plan: { id: planId(input, entries), entries },
    verdicts: decisions.map((decision) => decision.verdict),
  };
}

/**
 * The policy is a part of it: the same changes under another mode or with other guards are not what was looked at. So a
 * plan that was printed under Observe has another id under Plan.
 */
function planId(input: PlanInput, entries: readonly PlanEntry[]): Digest {
  const desired = input.desired.map((plugin) => [plugin.name, plugin.kind === 'resolved' ? plugin.digest : null]);
  const observed = input.observation.plugins.map((plugin) => [
    plugin.name,
    plugin.present,
    plugin.receipt?.digest,
    plugin.listDigest,
    plugin.differing,
    plugin.equalToDesired,
  ]);
  const changes = entries.map(({ action, plugin, cause, from, to, differing, settings }) => [
    [action, plugin, cause],
    [from, to],
    differing,
    // What is not there changes no id: plans are approved across an upgrade of plugset.
    ...(settings === undefined ? [] : [settings]),
  ]);
  const { workspace, target, runtime, policy } = input;
  const settings = settingsPart(input);
  return sha256(
    JSON.stringify([
      ...[workspace, target, runtime, desired, observed, canonicalJson(policy), changes],
      ...(settings.length === 0 ? [] : [settings]),
    ]),
  );
}

/** What is declared, and what was delivered: of neither a value, nor a hash of one. */
function settingsPart({ desired, observation }: PlanInput): readonly unknown[] {
  const wanted = desired.flatMap((plugin) =>
    plugin.kind === 'resolved' && plugin.settings !== undefined ? [[plugin.name, plugin.settings.declared]] : [],
  );
  const found = (observation.settings ?? []).map(({ name, file, receipt, base }) => [
    name,
    file.kind === 'file' && receipt !== undefined ? file.sha256 === receipt.sha256 : file.kind,
    receipt?.revision,
    base.kind,
  ]);
  return [...wanted, ...found];
}

function stepFor(name: PluginName, wanted: DesiredSettings | undefined, input: PlanInput): SettingsStep {
  const { settings, owner, areSettingsBlocked } = input.observation;
  const found = settings?.find((one) => one.name === name);
  if (areSettingsBlocked === true && (wanted !== undefined || found !== undefined))
    return { kind: 'blocked', message: 'plugin-settings is no directory of its own' };
  const other = otherOwner(found, input);
  if (other === undefined) {
    const step = settingsStep(name, wanted, found, input.writerUid ?? owner.uid);
    // The receipt is to name the workspace that has them now: by the old one nobody would remove them.
    const isFormer = found?.receipt !== undefined && found.receipt.workspace !== input.workspace;
    return step.kind === 'none' && isFormer && wanted?.revision !== undefined
      ? { kind: 'write', cause: 'intentional' }
      : step;
  }
  return wanted === undefined
    ? { kind: 'none' }
    : { kind: 'blocked', message: `its settings there were delivered for ${other}` };
}

/** A workspace that shares the target by mistake: what was delivered for it is not ours to take away. */
function otherOwner(found: ObservedSettings | undefined, { workspace, formerOwners }: PlanInput): string | undefined {
  const owner = found?.receipt?.workspace;
  return owner === undefined || owner === workspace || formerOwners.has(owner) ? undefined : owner;
}

/** What is removed takes its settings along. */
function withoutSettings(decision: Decision, name: PluginName, input: PlanInput): Decision {
  if (decision.entry === undefined || stepFor(name, undefined, input).kind !== 'remove') return decision;
  return { ...decision, entry: { ...decision.entry, settings: 'remove' } };
}

/** Settings that we delivered for a plugin of which nothing else is there any more. */
function decideLeftSettings(name: PluginName, input: PlanInput): Decision | undefined {
  if (input.policy.prune === 'Off' || stepFor(name, undefined, input).kind !== 'remove') return undefined;
  return {
    verdict: verdict(name, 'Removing', 'Progressing', 'not declared; its settings are removed', true),
    entry: { ...settingsEntry(name, 'no longer declared', 'intentional'), settings: 'remove' },
  };
}

function settingsEntry(plugin: PluginName, origin: string, cause: PlanEntry['cause']): PlanEntry {
  return { action: 'configure', plugin, cause, origin, labels: {}, differing: [] };
}

/** Adds what has to be done about the settings of a plugin whose tree stands, or is about to. */
function withSettings(decision: Decision, plugin: DesiredPlugin, input: PlanInput): Decision {
  if (plugin.kind === 'unresolved') return decision;
  const { settings: wanted, name } = plugin;
  const stands = decision.entry === undefined && decision.verdict.state === 'Installed';
  if (!stands && decision.entry === undefined) return decision;
  const step = stepFor(name, wanted, input);
  if (step.kind === 'write' || step.kind === 'remove') {
    if (decision.entry !== undefined) return { ...decision, entry: { ...decision.entry, settings: step.kind } };
    if (step.cause === 'corrective') return decideSettingsDrift(decision, plugin, input.policy);
    const message = step.kind === 'write' ? 'its settings are delivered' : 'its settings are removed';
    return {
      verdict: { ...decision.verdict, state: 'Pending', reason: 'Progressing', message },
      entry: { ...settingsEntry(name, plugin.origin, 'intentional'), settings: step.kind },
    };
  }
  if (!stands) return decision;
  const error =
    step.kind === 'blocked' ? terminal('ConfigNotDelivered', `plugin ${name}: ${step.message}`) : wanted?.error;
  if (error !== undefined) {
    const { reason, message } = error;
    return { verdict: { ...decision.verdict, state: 'Failed', reason, message, error } };
  }
  if (wanted === undefined || wanted.problems.length === 0 || decision.verdict.reason !== 'Succeeded') return decision;
  const message = `as declared but for its config: ${wanted.problems.slice(0, 5).join('; ')}`;
  return { verdict: { ...decision.verdict, reason: 'ConfigInvalid', message } };
}

function decideSettingsDrift({ verdict: standing }: Decision, plugin: ResolvedPlugin, { drift }: Policy): Decision {
  const what = 'its settings were changed on the target';
  if (drift === 'Off') return { verdict: { ...standing, message: `${what}; policy.drift is Off` } };
  const drifted = { ...standing, state: 'Drifted', reason: 'Drifted' } as const;
  if (drift === 'Warn')
    return { verdict: { ...drifted, message: `${what}; left as they are because policy.drift is Warn` } };
  return {
    verdict: { ...drifted, message: what },
    entry: { ...settingsEntry(plugin.name, plugin.origin, 'corrective'), settings: 'write' },
  };
}

function decideUndeclared(plugin: ObservedPlugin, policy: Policy): Decision {
  const managed = isManaged(plugin);
  if (!(managed ? policy.prune !== 'Off' : policy.prune === 'All')) {
    return {
      verdict: managed
        ? verdict(plugin.name, 'Held', 'PruneOff', 'no longer declared; kept because policy.prune is Off', true)
        : verdict(plugin.name, 'Unmanaged', 'Unmanaged', 'not installed by plugset; left alone', false),
    };
  }
  return {
    verdict: verdict(plugin.name, 'Removing', 'Progressing', 'not declared; is removed', managed),
    entry: {
      action: 'remove',
      plugin: plugin.name,
      cause: 'intentional',
      origin: managed ? 'no longer declared' : 'policy.prune: All',
      from: plugin.receipt?.digest,
      labels: { from: observedLabel(plugin) },
      differing: [],
    },
  };
}

function decideDeclared(plugin: DesiredPlugin, found: ObservedPlugin | undefined, input: PlanInput): Decision {
  if (plugin.kind === 'unresolved') return decideUnresolved(plugin, found);
  if (found?.present === true && !isManaged(found)) return decideUnmanaged(plugin, found, input.policy);
  if (found?.present === true && found.listDigest === plugin.digest && found.differing.length === 0) {
    return decideStanding(plugin, found, input);
  }
  return decideChange(plugin, found, input);
}

/** The tree that stands is left standing, and shown as installed while it is whole and came from this very source. */
function decideUnresolved(
  plugin: Extract<DesiredPlugin, { kind: 'unresolved' }>,
  found: ObservedPlugin | undefined,
): Decision {
  const managed = isManaged(found);
  const stands =
    found?.present === true &&
    found.receipt?.source === plugin.source &&
    found.listDigest === found.receipt.digest &&
    found.differing.length === 0 &&
    plugin.error.class !== 'terminal';
  const message = stands ? `${plugin.error.message}; the installed revision stands` : plugin.error.message;
  const state = stands ? 'Installed' : plugin.error.class === 'waiting' ? 'Pending' : 'Failed';
  return {
    verdict: {
      ...verdict(plugin.name, state, plugin.error.reason, message, managed),
      error: stands ? undefined : plugin.error,
    },
  };
}

function decideUnmanaged(plugin: ResolvedPlugin, found: ObservedPlugin, { adopt }: Policy): Decision {
  if (found.equalToDesired !== true) {
    if (adopt === 'Replace') return decideInstall(plugin, found, 'intentional');
    const message = `plugin ${plugin.name}: a directory of this name that plugset did not install is there with other content; remove it, choose another name, or set policy.adopt to Replace`;
    return {
      verdict: {
        ...verdict(plugin.name, 'Failed', 'NameTaken', message, false),
        error: terminal('NameTaken', message),
      },
    };
  }
  return {
    verdict: verdict(plugin.name, 'Pending', 'Progressing', 'an equal directory is there; is adopted', false),
    entry: entryFor(plugin, 'adopt', 'intentional', found),
  };
}

/** One that was installed for a workspace that is gone gets a receipt of its own: by the old one nobody would remove it. */
function decideStanding(plugin: ResolvedPlugin, found: ObservedPlugin, input: PlanInput): Decision {
  const installed = installedVerdict(plugin, input.runtime);
  const owner = found.receipt?.workspace;
  if (owner === undefined || !input.formerOwners.has(owner)) return { verdict: installed };
  return {
    verdict: { ...installed, message: `${installed.message}; was installed for ${owner}, which is not declared here` },
    entry: entryFor(plugin, 'adopt', 'intentional', found),
  };
}

function decideChange(plugin: ResolvedPlugin, found: ObservedPlugin | undefined, input: PlanInput): Decision {
  // The declaration did not change if this tree was converged before, by our own memory or by the receipt.
  const known = input.lastConverged.get(plugin.name) === plugin.digest || found?.receipt?.digest === plugin.digest;
  // A target without a trace of us is a new machine, not an edited one: drift policy has no say in its first install.
  return known && isManaged(found)
    ? decideDrift(plugin, found, input.policy)
    : decideInstall(plugin, found, known ? 'corrective' : 'intentional');
}

function decideInstall(plugin: ResolvedPlugin, found: ObservedPlugin | undefined, cause: PlanEntry['cause']): Decision {
  const present = found?.present === true;
  const message = present ? `is replaced by ${shortDigest(plugin.digest)}` : 'declared and not there yet; is installed';
  return {
    verdict: verdict(plugin.name, 'Pending', 'Progressing', message, isManaged(found)),
    entry: entryFor(plugin, present ? 'replace' : 'install', cause, found),
  };
}

function decideDrift(plugin: ResolvedPlugin, found: ObservedPlugin | undefined, policy: Policy): Decision {
  const isGone = found?.present !== true;
  const reason = isGone ? 'Missing' : 'Drifted';
  const what = describeDrift(found);
  switch (policy.drift) {
    case 'Off':
      // Not to speak of edits is one thing; to call installed what is not there would be another.
      return {
        verdict: isGone
          ? verdict(plugin.name, 'Drifted', reason, `${what}; left away because policy.drift is Off`, true)
          : verdict(plugin.name, 'Installed', 'Succeeded', 'differs on the target; policy.drift is Off', true),
      };
    case 'Warn':
      return {
        verdict: verdict(plugin.name, 'Drifted', reason, `${what}; left as it is because policy.drift is Warn`, true),
      };
    case 'Enforce':
      return {
        verdict: verdict(plugin.name, 'Drifted', reason, what, true),
        entry: entryFor(plugin, 'restore', 'corrective', found),
      };
  }
}

function describeDrift(found: ObservedPlugin | undefined): string {
  if (found?.present !== true) return 'its directory is gone';
  if (found.differing.length === 0) return 'its file list was changed on the target';
  return `changed on the target: ${found.differing.slice(0, 5).join(', ')}${found.differing.length > 5 ? ' …' : ''}`;
}

function entryFor(
  plugin: ResolvedPlugin,
  action: PlanAction,
  cause: PlanEntry['cause'],
  found: ObservedPlugin | undefined,
): PlanEntry {
  return {
    action,
    plugin: plugin.name,
    cause,
    origin: plugin.origin,
    from: found?.receipt?.digest,
    to: plugin.digest,
    labels: {
      from: found?.present === true ? observedLabel(found) : undefined,
      to: { revision: plugin.revision, version: plugin.manifest.version },
    },
    differing: found?.differing ?? [],
  };
}

function observedLabel(found: ObservedPlugin): TreeLabel {
  const { receipt, manifest } = found;
  const isForeign = isManaged(found) ? undefined : true;
  return { revision: receipt?.revision, version: manifest.version, isForeign };
}

function installedVerdict(plugin: ResolvedPlugin, runtime: string): Verdict {
  if (plugin.stale !== undefined) {
    const message = `${plugin.stale.message}; the installed revision stands`;
    return verdict(plugin.name, 'Installed', plugin.stale.reason, message, true);
  }
  if (!supportsRuntime(plugin.manifest, runtime)) {
    const message = `its manifest does not list the runtime ${runtime}; it may stay inert`;
    return verdict(plugin.name, 'Installed', 'UnsupportedRuntime', message, true);
  }
  const named = plugin.manifest.name;
  const message =
    named === undefined || named === plugin.name ? 'as declared' : `as declared; its manifest says name: ${named}`;
  return verdict(plugin.name, 'Installed', 'Succeeded', message, true);
}

/** A plugin that lists no runtimes is meant for all of them. `-` and `_` are equal. */
function supportsRuntime(manifest: PluginManifest, runtime: string): boolean {
  const listed = manifest.runtimes ?? [];
  return listed.length === 0 || listed.some((name) => isSameRuntime(name, runtime));
}

/** A receipt that the agent garbled does not make the tree foreign: the file list beside it still says that we put it there. */
export function isManaged(found: ObservedPlugin | undefined): boolean {
  return found?.receipt !== undefined || found?.filesSha256 !== undefined;
}

function verdict(name: PluginName, state: PluginState, reason: Reason, message: string, managed: boolean): Verdict {
  return { name, state, reason, message, managed };
}
