import type { Reason } from './reason.ts';

/** What a person does about each reason, in one sentence. A reason without advice is a type error. */
export const ADVICE: Readonly<Record<Reason, string>> = {
  // outcome of a pass
  Succeeded: 'Leave it: everything is as declared.',
  Progressing: 'Wait: it goes on by itself.',
  ProgressingWithRetry: 'Wait: it is tried again by itself.',
  Deleting: 'Wait: its target is cleaned, then it is forgotten.',
  DeletedUnclean: 'Remove by hand what the message names, should that target ever come back.',
  ObserveOnly: 'Set policy.mode to Apply (or Plan) to have it carried out; `plugset plan` shows all of it.',
  AwaitingApproval: 'Look at it with `plugset plan`, then agree with the `plugset approve` of the message.',
  Paused: 'Run `plugset resume` when plugset should go on.',
  Suspended: 'Set spec.suspend to false when plugset should go on.',
  Pull: 'Let the workspace fetch for itself; plugset never looks at it.',
  // declaration
  InvalidSpec: 'Correct the declaration where the message points; `plugset validate FILE` checks a file.',
  TooLarge: 'Make the object smaller: the config of its plugins, or its annotations.',
  PolicyLocked: 'Take the key out of the policy of the declaration, or have the operator unlock it (policyLocked).',
  InvalidSource: 'Correct the source of the plugin, or have the operator allow what the message names.',
  UnknownRuntime: 'Set spec.runtime to a runtime that has a profile.',
  UnsupportedRuntime: 'Take the plugin out where it is of no use, or have its author list the runtime.',
  ConfigNotDelivered:
    'Read the message of the plugin (plugset status -o yaml): it names the reference, or the file in the way. Make the Secret or put the file or variable on the allow-list (secrets), or take away what is in the way; settings that were delivered before stay meanwhile.',
  ConfigInvalid:
    'Correct the keys that the message of the plugin names, in the config of its declaration. The other keys were delivered.',
  // sources
  PluginNotFound: 'Correct repository, ref or path of the source, or give plugset a credential that may see it.',
  SourceUnavailable: 'Check that the forge runs and can be reached from here; what is installed stands until it is.',
  SourceRejected: 'Have the author mend what the message names, or declare another ref.',
  DigestMismatch: 'Review the content at the source, then change the pin in the declaration.',
  CacheUnavailable:
    'Make room or a writable place for the cache of plugset (--cache-dir, --cache-size); it goes on by itself.',
  // target
  WorkspaceNotFound: 'Start the workspace, or correct spec.target if it points elsewhere.',
  WorkspaceNotRunning: 'Start the workspace.',
  PodPending: 'See why with `kubectl describe pod`: no node has room for it, or its volumes cannot be had.',
  PodNotReady:
    'Wait: plugset goes on as soon as it runs. If it lasts, see why with `kubectl describe pod`: an image, a volume or an init container.',
  ContainerRestarting: 'See why it ends with `kubectl logs --previous`; plugset goes on whenever it runs.',
  PodCompleted: 'Have another pod made in its place, or point spec.target at one that goes on running.',
  PodEvicted: 'Have another pod made in its place, with requests for what it uses, so that it is not driven out again.',
  Unreachable: 'Check that the engine or host runs and can be reached from here.',
  AuthenticationFailed:
    'Give plugset a valid credential, or the certificate or host key to trust, for what the message names.',
  AccessDenied: 'Allow what the message names: in the IAM policy of plugset, or in its role in the cluster.',
  Throttled:
    'Wait: it is tried again by itself. If it lasts, find out what else asks so much: in that account of AWS, or of that API server.',
  ObjectNotFound:
    'Make what the message names; where that is a kind of plugset.dev, install it: `plugset manifests crd | kubectl apply --server-side -f -`.',
  Conflict: 'Wait: it is tried again by itself. If it lasts, find out who else writes the object.',
  EndpointMissing:
    'Make an EC2 Instance Connect endpoint in the subnet or VPC of the instance, or mend the one that the message names.',
  EndpointBusy:
    'Wait: it is tried again by itself. If it lasts, find out who else uses the endpoint: it has 20 tunnels.',
  LoginKeyRefused:
    'Wait: another key is pushed. If it lasts, check on the instance that ec2-instance-connect is installed, its metadata service on, its clock right, and that the user exists.',
  HostKeyMismatch:
    'Find out why its key has changed; if that is as it should be, do what the message ends with: correct the known hosts file, or `plugset hostkey forget` or `pin`.',
  HostKeyUnknown:
    'Once its key is verified, put it into the known hosts file of the configuration (targets.ssh), or `plugset hostkey pin` it.',
  SudoRefused:
    'Let the user who logs in run sudo without a password as the owner of the config directory (sudoers: USER ALL=(OWNER) NOPASSWD: ALL), log in as the owner, or make that user the owner.',
  TargetNotAllowed:
    'Correct spec.target, or have the operator allow the place below targets in the configuration (the message names the key). With custom resources an entry there is for the namespaces that it names, and for no other.',
  TargetUnproven:
    'Set the label plugset.dev/workspace=NAMESPACE/NAME on the container, or name it by the name rule. One that cannot be made anew the operator can give to the workspace: targets.docker.containers.',
  TargetKindChanged:
    'Declare the old kind of target again, or delete the workspace, wait until it is gone, and declare it anew.',
  TargetAmbiguous:
    'Take the tags off all instances but one, or name the instance by its id. Of pods: label but one, or name it.',
  TargetClaimed:
    'Take one of the two declarations out, or point it at another target: a host, container or directory is for one workspace.',
  ForeignOwner: 'Stop one of the two controllers; if the other is gone for good, `plugset takeover`.',
  StaleFence:
    'Find out which process leads (`plugset explain` says so) and stop the one that should not. If the store was restored from an older copy, delete its lease (the row of plugset.leases; lock.json in the state directory; the Lease `plugset` in the namespace of the controller): the next one is newer than what targets know. If it is neither, somebody has written the file .plugset/fence in the config directory of the target: remove it there.',
  ConfigDirMissing:
    'Make the config directory on the target, as the user whose the plugins are to be; or correct spec.runtime, or the configDir of its profile (profiles).',
  // work on the target
  PermissionDenied:
    'Where the message says what to do, do that; else give the config directory and everything in it to one owner on the target.',
  ExecTimeout: 'Find out why commands hang on the target: load, disk, a stopped process.',
  OutcomeUnknown: 'Wait: the next pass looks before it acts.',
  ObserveFailed: 'Check on the target that sh and its tools work; the log of the controller has what they said.',
  InstallFailed: 'Put right on the target what the message names; the log of the controller has the rest.',
  RemoveFailed: 'Put right on the target what the message names; the log of the controller has the rest.',
  VerifyFailed: 'Find out what else writes to plugins/ on the target, if this comes back.',
  TargetMoved: 'Find out what else writes to plugins/ on the target, if this comes back.',
  DiskFull: 'Free space or raise the quota on the target.',
  ReadOnly: 'Mount the config directory of the target writable.',
  ToolMissing: 'Install the tool that the message names on the target; where that is a container, in its image.',
  LockHeld: 'Find out which apply holds the lock on the target, if this lasts.',
  UnsafePath: 'Look who put the link, special file or foreign owner there, and take it away.',
  UnknownFormat: 'Upgrade this plugset.',
  // plugins
  Missing: 'Set policy.drift to Enforce to have it put back, or take it out of the declaration.',
  Drifted: 'Set policy.drift to Enforce to have it restored, or undo the edit on the target.',
  NameTaken:
    'Set policy.adopt to Replace (its files are kept in .plugset/kept/), remove the directory of that name, or declare another name.',
  Unmanaged: 'Leave it, or declare it to have it managed.',
  RestartFailed: 'Restart the workspace by hand, and see why its engine could not.',
  RestartPending: 'Wait: it is restarted by itself.',
  RestartDeferred: 'Wait, or restart the workspace by hand.',
  RestartRepeated:
    'See in the history of explain what is corrected each time, and who on the target changes it back; then restart by hand.',
  RestartNever: 'Restart the workspace when it suits you (plugset restart), or set policy.restart to IfNeeded.',
  NotDurable:
    'Put the config directory on a volume, so that it outlives a restart. Where somebody only edited it, restart the workspace by hand.',
  PruneOff: 'Set policy.prune to Managed to have it removed, or declare it again.',
  PruneHeld: 'Undo what took the declarations away, or agree with the `plugset approve` of the message.',
  // ourselves
  PassTimeout: 'Find out what the pass waited for: with --log-level debug the controller names each step.',
  StoreUnavailable:
    'Check that the database, the directory or the Kubernetes API can be reached from here, and lets plugset read and write there.',
  NotLeader: 'Leave it to the process that leads.',
  Internal: 'Report it with the line of the log.',
};
