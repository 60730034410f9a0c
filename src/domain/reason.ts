/**
 * The closed list of reasons, shown in conditions, plugin rows, logs and metrics alike. A stable interface: words are
 * added, never renamed. The text after each word says what it means; what a person does about it is in
 * `advice.ts`.
 */
export const REASONS = {
  // outcome of a pass
  Succeeded: 'Everything declared is on the target, as the last look showed.',
  Progressing: 'A pass is under way or waits for something with a known time.',
  ProgressingWithRetry: 'The last attempt failed in a way that may pass; it is retried with backoff (1 s to 5 min).',
  Deleting: 'The declaration is gone; what plugset installed is taken away, then the workspace is forgotten.',
  DeletedUnclean:
    'The declaration is gone and its target could not be reached in time, or let nobody clean it: what plugset installed may lie there still.',
  ObserveOnly: 'policy.mode is Observe: the target is looked at, and what differs is shown and left.',
  AwaitingApproval: 'policy.mode is Plan: the changes are worked out and wait until this very plan is approved.',
  Paused: 'The whole fleet is paused: targets are looked at and nothing is changed until plugset resume.',
  Suspended: 'spec.suspend is true: nothing is looked at or changed until it is false again.',
  Pull: 'An external workspace fetches for itself; plugset records what is declared and never looks at it.',
  // declaration
  InvalidSpec: 'The declaration cannot be used as it stands.',
  TooLarge:
    'The object leaves no room in the Kubernetes API for its status: that was not written, and says what was true before.',
  PolicyLocked: 'The declaration asks for something that the operator has locked; what the operator says holds.',
  InvalidSource:
    'The source cannot be used: bad grammar, unknown scheme, no pin, or a place the operator has not allowed.',
  UnknownRuntime: 'No profile exists for spec.runtime, so where plugins go is unknown.',
  UnsupportedRuntime: 'The plugin does not list this runtime; it is installed all the same and may stay inert.',
  ConfigNotDelivered:
    'The plugin is installed without the settings that its declaration says: one of them could not be looked up, or something is in the way of the file.',
  ConfigInvalid:
    'The plugin is installed and has its settings, but for keys that its manifest does not allow or that refer to nothing; those were left out.',
  // sources
  PluginNotFound: 'The repository, ref, directory or path does not exist (or a credential is needed to see it).',
  SourceUnavailable: 'The source could not be reached; the revision already on the target stands until it can.',
  SourceRejected:
    'The content breaks an archive rule (size, count, depth, link, device or file name); nothing was unpacked.',
  DigestMismatch: 'The content at the source is not the tree that spec.plugins[].digest pins.',
  CacheUnavailable: 'The artifact cache of plugset cannot be written or read, so what is not in it waits.',
  // target
  WorkspaceNotFound: 'The target does not exist now; plugset waits and goes on when it appears.',
  WorkspaceNotRunning: 'The target exists and does not run; plugset waits and goes on when it starts.',
  PodPending: 'The pod has been declared and has no node yet, so nothing of it runs.',
  PodNotReady: 'The pod has a node, and its container has not been started there yet.',
  ContainerRestarting: 'The container of the pod has ended, and is started again, perhaps after a pause.',
  PodCompleted: 'The pod has run to its end or failed, and will never run again; plugset waits for another one.',
  PodEvicted: 'The pod was driven from its node, and will never run again; plugset waits for another one.',
  Unreachable: 'The target could not be looked at; what is on it is unknown, not absent.',
  AuthenticationFailed:
    'The engine, host or forge refused our credential, or its certificate or host key is not one that we trust.',
  AccessDenied: 'AWS, or the Kubernetes API, knows our credential and does not let it do this.',
  Throttled: 'AWS, or the Kubernetes API, takes no more such requests for now.',
  ObjectNotFound: 'The Kubernetes API has no such object, or no such kind of objects.',
  Conflict: 'Somebody else was faster to make or change the object in Kubernetes; it is read again.',
  EndpointMissing: 'No EC2 Instance Connect endpoint leads to the instance: there is none, or none that can be used.',
  EndpointBusy: 'The EC2 Instance Connect endpoint of the instance opens no further tunnel for now.',
  LoginKeyRefused:
    'The instance did not take the key that was pushed for this login: its minute was over, or it never heard of it.',
  HostKeyMismatch:
    'The host shows another key than the one it is known by: it was reinstalled, or it is another machine.',
  HostKeyUnknown: 'The host is met for the first time, and nothing vouches for its key.',
  SudoRefused:
    'The user who logs in may not become the owner of the config directory: sudo refused without a password.',
  TargetNotAllowed:
    'The operator has not allowed this place (roots, engines, regions, hosts, namespaces of pods) as a target.',
  TargetUnproven: 'Nothing proves that the target belongs to this workspace: neither a label nor the name rule.',
  TargetKindChanged:
    'The declaration names another kind of target than before, which is another workspace; nothing is done.',
  TargetAmbiguous: 'Several instances or pods fit what the declaration says, so none of them is touched.',
  TargetClaimed: 'Another workspace claims the same target.',
  ForeignOwner: 'Another controller (another authority) manages this target.',
  StaleFence: 'The target says that a newer leader has written to it; whoever has an older turn writes nothing there.',
  ConfigDirMissing: 'The config directory of the runtime profile does not exist on the target.',
  // work on the target
  PermissionDenied: 'The target refused the operation, or files there belong to somebody else.',
  ExecTimeout: 'The command on the target did not end in time and was killed.',
  OutcomeUnknown: 'The connection broke between request and result; the next pass looks before it acts.',
  ObserveFailed: 'The look at the target gave no usable answer.',
  InstallFailed: 'The target could not put the plugin in place.',
  RemoveFailed: 'The target could not take the plugin away.',
  VerifyFailed: 'What arrived at the target is not what was sent.',
  TargetMoved: 'The target changed between the look and the change, so nothing was done; the next pass looks again.',
  DiskFull: 'No space or quota is left on the target.',
  ReadOnly: 'The config directory is on a read-only file system.',
  ToolMissing: 'A tool that the script needs (tar, sha256sum, find, awk …) is missing on the target.',
  LockHeld: 'Another apply holds the lock of this target.',
  UnsafePath: 'A symbolic link, a special file or a foreign owner stands where plugset would write.',
  UnknownFormat: 'The target was written by a newer plugset.',
  // plugins
  Missing: 'The plugin is declared and not on the target.',
  Drifted: 'The tree on the target differs from what was installed.',
  NameTaken: 'A directory that plugset did not install has this name and other content.',
  Unmanaged: 'A directory that plugset did not install; left alone.',
  RestartFailed: 'The workspace could not be restarted; it is tried again.',
  RestartPending: 'The files are in place; one restart follows, so that the runtime takes them up.',
  RestartDeferred:
    'The workspace, or the fleet as a whole, was restarted often enough; the next restart waits for room.',
  RestartRepeated:
    'The workspace was restarted often enough for one correction that something undoes; the next restart waits for a day.',
  RestartNever: 'The files are in place; the runtime takes them up when somebody restarts it (policy.restart: Never).',
  NotDurable: 'A restart would lose what was delivered, so the workspace is not restarted.',
  PruneOff: 'No longer declared, and kept because policy.prune is Off.',
  PruneHeld:
    'So much would be removed at once that it may be a mistake: it waits until the plan is approved or the edit undone.',
  // ourselves
  PassTimeout:
    'The pass took longer than one may and was ended, with everything it had running; it is retried with backoff.',
  StoreUnavailable: 'The store could not be read or written; nothing is concluded from that.',
  NotLeader: 'Another process holds the lease, or this one lost it.',
  Internal: 'A fault of plugset itself.',
} as const satisfies Record<string, string>;

export type Reason = keyof typeof REASONS;

/**
 * Nobody gets at the target: it does not run, does not answer, is not proven or allowed, does not let us in, or shows
 * nothing. What is on it is not known, and whoever is being deleted waits for it for a stated time and no longer. Nor
 * for a fence there that refuses us: one line in a file that the agent may write. Not among them: what else a target that
 * was looked at refuses, and what people hold back.
 */
const CANNOT_REACH: ReadonlySet<Reason> = new Set<Reason>([
  'WorkspaceNotRunning',
  'PodPending',
  'PodNotReady',
  'ContainerRestarting',
  'PodCompleted',
  'PodEvicted',
  'Unreachable',
  'AuthenticationFailed',
  'AccessDenied',
  'Throttled',
  'EndpointMissing',
  'EndpointBusy',
  'LoginKeyRefused',
  'HostKeyMismatch',
  'HostKeyUnknown',
  'SudoRefused',
  'TargetNotAllowed',
  'TargetUnproven',
  'TargetAmbiguous',
  'UnknownRuntime',
  'ConfigDirMissing',
  'ExecTimeout',
  'OutcomeUnknown',
  'ObserveFailed',
  'ToolMissing',
  'PassTimeout',
  'ForeignOwner',
  'StaleFence',
]);

export function isBeyondReach(reason: Reason): boolean {
  return CANNOT_REACH.has(reason);
}

const IDLE: ReadonlySet<Reason> = new Set(['Suspended', 'Pull']);

/** Whether it is why nobody works on a workspace at all, as somebody wants it. */
export function isIdle(reason: Reason): boolean {
  return IDLE.has(reason);
}
