import type { TargetKind, Workspace } from '../domain/workspace.ts';

/** As whom a command runs. `observer`: as root where the transport can, since its report then cannot be forged. */
export type RunAs = 'observer' | { readonly uid: number; readonly gid: number };

export interface RunOptions {
  readonly as: RunAs;
  /** Streamed to the command's stdin, which is then closed. Left out: empty. Back-pressure is honoured. */
  readonly stdin?: AsyncIterable<Uint8Array> | undefined;
  /** From call to exit, milliseconds. After it the command is killed on the target and `ExecTimeout` (transient) thrown. */
  readonly deadlineMs: number;
  /** Kills the command on the target like the deadline does, and throws `aborted`. */
  readonly signal: AbortSignal;
  /** Bytes of stdout and of stderr that are kept; more of either kills the command and throws `ObserveFailed`. Default 16 MiB. */
  readonly maxOutputBytes?: number;
}

export type RunResult =
  | { readonly kind: 'exited'; readonly code: number; readonly stdout: Buffer; readonly stderr: Buffer }
  /** The transport broke between request and exit status: it may have run, wholly, partly or not at all, or still run. */
  | { readonly kind: 'unknown'; readonly message: string; readonly cause: unknown };

/** Only equality of two tokens means anything. */
export type ProbeResult =
  /** `isBlind`: it moves with the target alone, and nothing is known of `configDir`, which may well be blank. */
  | { readonly kind: 'token'; readonly token: string; readonly isBlind?: true }
  /**
   * `configDir` was seen, and neither `plugins` nor `.plugset` in it. A hint and no proof, since not everybody who can be
   * asked cheaply can see into every mount; who has proof may well give a token instead.
   */
  | { readonly kind: 'blank' }
  | { readonly kind: 'unsupported' }
  | { readonly kind: 'unknown'; readonly cause: unknown };

/** One running workspace that commands can be run in. Short-lived: located anew in every pass. */
export interface WorkspaceTarget {
  /** The thing itself, not its name: container id, device and inode. Two workspaces with one identity share a target. */
  readonly identity: string;
  /** For people: `container ws-alice on engine default`. */
  readonly description: string;
  /**
   * Whether files at `configDir` may be kept when this target is gone, and come back with the next one, as on a volume of a pod.
   * A deletion waits for such a target, and for no other that does not exist. Left out: they are not.
   */
  readonly keepsFiles?: (configDir: string) => boolean;
  /**
   * All {@link TargetProvider.addresses} by which this very target may be declared, as far as workspaces have some. Left out: whoever
   * shares it shares an address.
   */
  readonly addresses?: () => readonly string[];
  /**
   * Runs `argv` directly, never through a shell; every element arrives byte for byte. An element with NUL is refused
   * (`Internal`, terminal). A program that does not exist exits 127 or 126. Throws `WorkspaceNotRunning`,
   * `WorkspaceNotFound` (waiting) when the target went away before the command started, `Unreachable` (transient)
   * when it could not be asked, `PermissionDenied` or `SudoRefused` (terminal) when `as` cannot be had.
   */
  run(argv: readonly string[], options: RunOptions): Promise<RunResult>;
  /**
   * A cheap look that moves when `configDir` may have changed: far below the cost of a run. Never throws; a
   * place that cannot be seen is `unknown`, never a token. Whether the target has stopped since it was located is not
   * asked again: the next `locate` tells.
   */
  probe(configDir: string, signal: AbortSignal): Promise<ProbeResult>;
  /** How its runtime is restarted; absent where that is nobody's business but the user's. */
  readonly activator?: Activator;
}

/** Restarts what runs on a target, and tells when it is back. Never replaces the target itself. */
export interface Activator {
  /** Asked for anew each time. Throws what {@link WorkspaceTarget.run} throws before a command has started. */
  inspect(configDir: string, signal: AbortSignal): Promise<RuntimeState>;
  /** What the clock says that {@link RuntimeState.startedAtMs} is a time of, Unix milliseconds. */
  now(signal: AbortSignal): Promise<number>;
  /**
   * Restarts it and resolves when the runtime has been started anew. Throws `RestartFailed` (transient) when the engine
   * refused or could not, `OutcomeUnknown` when nobody can say whether it did.
   */
  restart(signal: AbortSignal): Promise<void>;
}

export interface RuntimeState {
  /** Unix milliseconds, by the clock of the target's engine. */
  readonly startedAtMs: number;
  /** Its own word, such as a health check that has not passed yet; `undefined` where it says nothing of the kind. */
  readonly isStarting: boolean | undefined;
  /** Why a restart would lose the config directory; `undefined` when it would not. */
  readonly wouldLose: string | undefined;
}

/** A target that is there and does not run. */
export interface StoppedTarget {
  readonly description: string;
  /** When it was started last, as in {@link RuntimeState.startedAtMs}. */
  readonly startedAtMs: number;
  /** Starts it, and throws as {@link Activator.restart} does. */
  start(signal: AbortSignal): Promise<void>;
}

/** `ended`: it is known, and will never run again. `missing`: nothing is known of it, for now or for good. */
export type TargetFate = 'there' | 'ended' | 'missing';

/** One kind of target. The composition root holds one for each kind that this build can reach. */
export interface TargetProvider {
  readonly kind: Exclude<TargetKind, 'external'>;
  /**
   * Every name under which the target of this workspace is known before it is located, e.g.
   * `docker:default:name:ws-alice`, `directory:/srv/agents/alice`. Asks nobody, and always says the same of one declaration. Two
   * workspaces that share one claim the same target; an event of {@link watch} names one.
   */
  addresses(workspace: Workspace): readonly string[];
  /** Work is capped per lane, so that a slow engine holds up nobody else: `docker:default`. Pure. */
  lane(workspace: Workspace): string;
  /**
   * The lane of all whose target kept the last pass waiting. Left out: each lane has a slow one beside it. Set where every target
   * has a lane of its own: with a slow one beside each, those that hang would take every worker.
   */
  readonly slowLane?: string;
  /**
   * Finds the target. Throws `WorkspaceNotFound`, `WorkspaceNotRunning`, of a pod also `PodPending`, `PodNotReady`,
   * `ContainerRestarting`, `PodCompleted`, `PodEvicted`, `TargetAmbiguous` (waiting), `Unreachable` (transient: could not
   * look), `TargetUnproven`, `TargetNotAllowed`, `AuthenticationFailed`, `AccessDenied`, `HostKeyMismatch`, `HostKeyUnknown`,
   * `InvalidSpec` (terminal).
   */
  locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget>;
  /**
   * Has the first {@link locate} of this workspace wait for nobody, as far as that can be had without asking for each one:
   * called now and then while another process leads. Throws as `locate` does. Left out where there is nothing of the kind.
   */
  readonly prepare?: (workspace: Workspace, signal: AbortSignal) => Promise<void>;
  /**
   * The target that `locate` refused as `WorkspaceNotRunning`; `undefined` when it runs, or was not simply stopped. Throws
   * as `locate` does. Left out where nothing is ever stopped by us.
   */
  locateStopped?(workspace: Workspace, signal: AbortSignal): Promise<StoppedTarget | undefined>;
  /**
   * What became of targets at addresses that are never given to another, as far as they are its own and it may look there.
   * Throws when it could not look. Left out where addresses are used again.
   */
  fatesOf?(addresses: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, TargetFate>>;
  /**
   * Calls `onStir` with an address whenever a target appeared, started, stopped or went, until `signal` aborts. What
   * happens where nothing was located for two hours, or ever, need not be told. Reconnects by itself; `onGap` says that
   * events may have been missed, also before the first connection. Returns at once.
   */
  watch?(onStir: (address: string) => void, onGap: () => void, signal: AbortSignal): void;
  close(): Promise<void>;
}
