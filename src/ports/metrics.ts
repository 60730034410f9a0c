import type { ReconcileError } from '../domain/errors.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { WorkspaceStatus } from '../domain/status.ts';

export type ReconcileOutcome = 'success' | 'error' | 'requeue' | 'requeue_after';
export type Phase = 'load' | 'locate' | 'resolve' | 'probe' | 'observe' | 'plan' | 'converge' | 'activate' | 'report';

/** What a Docker engine is asked: one request over HTTP each. */
export type EngineRequest =
  | 'inspect'
  | 'list'
  | 'stat'
  | 'exec_create'
  | 'exec_start'
  | 'exec_inspect'
  | 'events'
  | 'restart'
  | 'info'
  | 'ping';
/**
 * How a request to an engine ended. `not_found` is an answer like any other; `unanswered`: the connection broke or the
 * time was up; `called_off`: by ourselves.
 */
export type EngineOutcome = 'ok' | 'not_found' | 'refused' | 'error' | 'unanswered' | 'called_off';

/** What AWS is asked, all pages and repetitions of one question together; `OpenTunnel` is asked of an endpoint. */
export type AwsAction =
  | 'DescribeInstances'
  | 'DescribeInstanceConnectEndpoints'
  | 'GetConsoleOutput'
  | 'SendSSHPublicKey'
  | 'OpenTunnel';
/**
 * How that ended. `denied`: for lack of a permission or of a good credential; `unanswered`: the connection broke, the time
 * was up, or what came was no answer; `refused` for any other reason, such as an instance that is not there.
 */
export type AwsOutcome = 'ok' | 'denied' | 'throttled' | 'refused' | 'unanswered' | 'called_off';

/** The tunnels through one EC2 Instance Connect endpoint at this moment. */
export interface TunnelState {
  readonly endpoint: string;
  readonly open: number;
  /** How many there may be. */
  readonly limit: number;
}

/**
 * How a connection to a host came about. `not_let_in`: for lack of a key that it takes; `host_key`: it shows none that is
 * believed; `failed` on the way to it.
 */
export type LoginOutcome = 'ok' | 'not_let_in' | 'host_key' | 'failed' | 'called_off';

/**
 * How a watch of the Kubernetes API ended. `closed`: by the server, as it does every few minutes; `relist`: by ourselves, for a
 * list; `broken`: the connection, or there was none; `silent`: nothing came, not even a bookmark; `unreadable`: what came was no
 * event; `expired`: the server has forgotten the version to go on from; `throttled`, `refused`, `failed`: it said no, by what it said.
 */
export type WatchEnd =
  | 'closed'
  | 'relist'
  | 'broken'
  | 'silent'
  | 'unreadable'
  | 'expired'
  | 'throttled'
  | 'refused'
  | 'failed';

/** A copy of objects of Kubernetes at this moment. */
export interface ReflectorState {
  /** Which, in the plural: `workspaces`. */
  readonly resource: string;
  readonly objects: number;
  /** Whether there is a copy at all. */
  readonly isSynced: boolean;
  /** Since the server last said anything of them; it does so every minute. */
  readonly silentSeconds: number;
}

/** The queue at this moment. */
export interface QueueState {
  /** Ready keys by priority. */
  readonly depth: ReadonlyMap<number, number>;
  /** Keys that are not due yet. */
  readonly delayed: number;
  /** How long the longest waiting ready key has waited. */
  readonly oldestWaitingSeconds: number;
  /** Age of all passes under way, added up, and of the oldest. */
  readonly unfinishedSeconds: number;
  readonly longestRunningSeconds: number;
}

/** One supervised loop at this moment. */
export interface LoopState {
  readonly name: string;
  /** Since it last got somewhere. */
  readonly idleSeconds: number;
  /** No progress for longer than the loop may take; it is being restarted, or does not react to that. */
  readonly stalled: boolean;
  readonly restarts: number;
}

/** One declared plugin: its scheme (`unknown` where no source has it), and whether news of its source are to be expected. */
export interface DeclaredSource {
  readonly scheme: string;
  /** `moving`: the declaration does not name the revision that was found, so that may change under it. */
  readonly tracking: 'moving' | 'pinned';
}

/** One scheme of sources at this moment. */
export interface SourceState {
  readonly scheme: string;
  /** Repositories that are asked again and again, by how the last question ended. */
  readonly followed: Readonly<Record<'ok' | 'error', number>>;
  /** When a question was last answered, Unix seconds; `undefined` when none was. */
  readonly lastSuccessSeconds: number | undefined;
}

/**
 * Everything plugset counts, in its own words; names, labels and buckets are the adapter's business.
 * Durations are seconds. No label has an unbounded set of values; series per workspace are opt-in and go with it.
 * No method throws.
 */
export interface Metrics {
  /** One pass ended; `error` is set for the outcome `error`, and for a `requeue_after` that waits for something. */
  reconciled(outcome: ReconcileOutcome, seconds: number, error?: ReconcileError): void;
  panicked(): void;
  /** A pass was ended by its deadline. */
  timedOut(): void;
  /** Passes under way, and how many there may be. */
  workers(active: number, limit: number): void;
  phase(phase: Phase, seconds: number): void;
  /** Changes carried out on a target. */
  changed(
    action: 'install' | 'replace' | 'restore' | 'remove' | 'adopt' | 'configure',
    cause: 'intentional' | 'corrective',
    count: number,
  ): void;
  /** A workspace was restarted to take changes up, or not. */
  restarted(outcome: 'done' | 'failed' | 'unknown'): void;
  /** From the write of a generation to the pass that found it converged. Once per generation. */
  converged(seconds: number): void;
  artifact(event: 'hit' | 'miss' | 'evicted', bytes: number): void;
  /** The artifact cache could not be read or written: its disk is full, say, or gone. */
  artifactsUnusable(): void;
  /** The configuration file was read, at this time (Unix seconds), and can be used or not. */
  configured(isUsable: boolean, seconds: number): void;
  /** A question to a source ended: what do these refs stand for. */
  resolved(scheme: string, outcome: 'ok' | 'error', seconds: number): void;
  /** A tree was fetched from a source and packed, or not. */
  fetched(scheme: string, outcome: 'ok' | 'error', seconds: number): void;
  /** A request to the Docker engine of this name (one that is configured) ended, or its answer began to come. */
  engineAsked(engine: string, request: EngineRequest, outcome: EngineOutcome, seconds: number): void;
  /** A question to AWS in this region (one that is configured) ended, after so long. */
  awsAsked(region: string, action: AwsAction, outcome: AwsOutcome, seconds: number): void;
  /** Somebody had a place among the tunnels of an endpoint, or gave up waiting for one, after so long. */
  tunnelWaited(seconds: number): void;
  /** A connection to a host was made, or not. */
  loggedIn(outcome: LoginOutcome): void;
  /**
   * A request to the Kubernetes API at `host` ended, or, of one without end, its answer began to come. `code`: that of HTTP, or
   * `<error>` where there was none.
   */
  kubeAsked(host: string, method: string, code: string, seconds: number): void;
  /** All objects of a kind were read, or not; `expired`: the server forgot the moment of the list before its end. */
  kubeListed(resource: string, outcome: 'ok' | 'expired' | 'error', seconds: number): void;
  kubeWatchOpened(resource: string): void;
  kubeWatchEnded(resource: string, end: WatchEnd): void;
  /** A list was compared with what the watch had told up to that very version: so many changes it had not. */
  kubeMissed(resource: string, changes: number): void;
  /** A notification was taken by the webhook, was refused there, or was given up: too old, or too many waited. */
  notified(outcome: 'sent' | 'refused' | 'dropped'): void;
  /** One could not be delivered and is tried again. */
  notificationRetried(): void;
  /** An event was taken by the Kubernetes API, was refused there, or was given up: too old, or too many waited. */
  eventTold(outcome: 'sent' | 'refused' | 'dropped'): void;
  looked(tier: 'probe' | 'deep', outcome: 'unmoved' | 'looked' | 'unknown'): void;
  /** A workspace is declared, and nothing is known of it yet: until its first status it counts as unknown. */
  introduced(key: WorkspaceKey): void;
  /** What a workspace that is worked on declares; nothing for one that is not. */
  declared(key: WorkspaceKey, plugins: readonly DeclaredSource[]): void;
  /** The newest status of a workspace, for the gauges; `undefined` when it is gone. */
  status(key: WorkspaceKey, status: WorkspaceStatus | undefined): void;
  /** Whoever stops leading knows nothing of the fleet any more: its gauges go, the next leader has them. */
  leading(isLeader: boolean): void;
  queueAdded(): void;
  queueRetried(): void;
  queueWaited(seconds: number): void;
  worked(seconds: number): void;
  /** Where the gauges of the queue come from, read at each scrape; a later call takes the place of an earlier one. */
  observeQueue(read: () => QueueState): void;
  /** The same for the places of declarations that cannot be read and show in no workspace. */
  observeUnreadable(read: () => number): void;
  /** The same for the supervised loops. */
  observeLoops(read: () => readonly LoopState[]): void;
  /** The same for the tunnels, of every endpoint that has some now. */
  observeTunnels(read: () => readonly TunnelState[]): void;
  /** The same for the connections to hosts that stand. */
  observeSessions(read: () => number): void;
  /** The same for the copies of objects of Kubernetes. */
  observeReflectors(read: () => readonly ReflectorState[]): void;
  /** The same for the sources, every scheme there is. */
  observeSources(read: () => readonly SourceState[]): void;
  /**
   * Whether the fleet is known right now: its list was read, and the store answers. While it is not, gauges over
   * workspaces and sources are left out, as on a standby: what is unknown is never 0.
   */
  observeFleet(isKnown: () => boolean): void;
}
