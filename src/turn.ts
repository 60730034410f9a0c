import { Controller } from './controller/controller.ts';
import { Resync } from './controller/resync.ts';
import { Supervisor } from './controller/supervisor.ts';
import { MemoryWorkQueue } from './controller/work-queue.ts';
import { classifyError, type ReconcileError } from './domain/errors.ts';
import type { WorkspaceKey } from './domain/name.ts';
import type { Reason } from './domain/reason.ts';
import type { WakeUp } from './domain/wake-up.ts';
import { whenAborted } from './ports/abort.ts';
import type { Term } from './ports/leadership.ts';
import type { ReconcileResult } from './ports/reconciler.ts';
import { LOW_PRIORITY } from './ports/work-queue.ts';
import type { WatchCause } from './ports/workspace-store.ts';
import { StateSweep } from './reconcile/state-sweep.ts';
import { createWorkshop, type PassLimits, type PassPorts, type Workshop } from './workshop.ts';

export interface TurnLimits extends PassLimits {
  readonly workers: number;
  readonly laneLimit: number;
  /** Pace of the first pass after a start, and of looks after a gap in what we are told, workspaces per second. */
  readonly firstPassPerSecond: number;
  readonly graceMs: number;
}

/** Far above what a forge takes that is well, far below what one may take that is not. */
const SOURCE_PATIENCE_MS = 5_000;
/** How a pass ends that the target, or the way to it, may have kept waiting until its deadline. */
const HELD_UP: ReadonlySet<Reason> = new Set<Reason>([
  'EndpointBusy',
  'ExecTimeout',
  'ObserveFailed',
  'OutcomeUnknown',
  'Unreachable',
]);
/** A worker pool in which nothing began or ended for so long is stuck, whatever its passes wait for. */
const STUCK_AFTER_MS = 15 * 60_000;
/** A store that refuses the first list, since all its clients are back at once, say, is asked again for so long; then another process may try. */
const PATIENCE_MS = 30_000;
const ASK_AGAIN_MS = 1_000;

/**
 * What this process does while it leads: everything that wakes a workspace is tied to the queue, the queue to the
 * workers. Nothing of it outlives the turn.
 */
export class Turn {
  readonly #ports: PassPorts;
  readonly #limits: TurnLimits;
  readonly #term: Term;
  readonly #queue: MemoryWorkQueue<WorkspaceKey>;
  readonly #workshop: Workshop;
  readonly #controller: Controller<WorkspaceKey>;
  readonly #supervisor: Supervisor;
  /** Workspaces whose last pass was held up on the way to their target, or there. */
  readonly #slow = new Set<WorkspaceKey>();
  #unready: string | undefined = 'the first list of workspaces is not in yet';

  constructor(ports: PassPorts, limits: TurnLimits, term: Term) {
    const { clock, logger, metrics } = ports;
    this.#ports = ports;
    this.#limits = limits;
    this.#term = term;
    metrics.observeFleet(() => this.unready() === undefined);
    metrics.observeUnreadable(() => ports.store.unreadable?.() ?? 0);
    this.#queue = new MemoryWorkQueue<WorkspaceKey>({
      clock,
      metrics,
      laneOf: (key) => this.#laneOf(key),
      laneLimit: limits.laneLimit,
    });
    this.#workshop = createWorkshop(ports, { sourcePatienceMs: SOURCE_PATIENCE_MS, ...limits }, (keys) =>
      this.#wake(keys, LOW_PRIORITY),
    );
    this.#controller = new Controller<WorkspaceKey>({
      queue: this.#queue,
      reconcile: (key, signal) => this.#pass(key, signal),
      clock,
      logger,
      metrics,
      workers: limits.workers,
      graceMs: limits.graceMs,
    });
    this.#supervisor = new Supervisor({ clock, logger, metrics });
  }

  /** To be called once. Resolves when `stop` aborted and all passes have ended, or when the term was lost. */
  async run(stop: AbortSignal): Promise<void> {
    const over = AbortSignal.any([this.#term.signal, stop]);
    try {
      await this.#listenPatiently(over);
      this.#start();
      await whenAborted(over);
    } catch (error) {
      // What it was doing when it was to end breaks off, and that is no failure.
      if (!over.aborted) throw error;
    } finally {
      await this.#supervisor.stop();
      await this.#controller.stop();
      this.#workshop.errands.stop();
      this.#workshop.revisions.stop();
    }
  }

  /** When and why a workspace has its next pass. */
  wakeUpOf(key: WorkspaceKey): WakeUp {
    return {
      authority: this.#term.fence.authority,
      queue: this.#queue.placeOf(key),
      failures: this.#queue.retries(key),
      deepInMs: this.#workshop.reconciler.deepLookInMs(key),
    };
  }

  /** Why this process is of no use now, though a restart would not help: for readiness. */
  unready(): string | undefined {
    return this.#unready ?? this.#ports.store.outdated;
  }

  /** Why this process should be started again: for liveness. */
  problem(): string | undefined {
    const idleMs = this.#ports.clock.monotonic() - this.#controller.lastProgress;
    return idleMs > STUCK_AFTER_MS ? 'no pass has begun or ended for 15 minutes' : this.#supervisor.problem();
  }

  /** A target that keeps passes waiting shares a lane with its like only, or a few of them would starve a whole engine. */
  #laneOf(key: WorkspaceKey): string | undefined {
    const lanes = this.#workshop.index.lanesOf(key);
    return this.#slow.has(key) ? lanes?.slow : lanes?.usual;
  }

  async #pass(key: WorkspaceKey, signal: AbortSignal): Promise<ReconcileResult> {
    try {
      const result = await this.#workshop.reconciler.reconcile(key, this.#term.fence, signal);
      this.#note(key, undefined);
      return result;
    } catch (error) {
      this.#note(key, classifyError(error));
      throw error;
    }
  }

  /** What the end of a pass tells beyond its own workspace. */
  #note(key: WorkspaceKey, failure: ReconcileError | undefined): void {
    if (failure !== undefined && HELD_UP.has(failure.reason)) this.#slow.add(key);
    else this.#slow.delete(key);
    if (failure?.class !== 'aborted')
      this.#unready = failure?.reason === 'StoreUnavailable' ? failure.message : undefined;
  }

  /** To give the lease back at the first refusal would make one more election of each. */
  async #listenPatiently(over: AbortSignal): Promise<void> {
    const { clock, logger } = this.#ports;
    const untilMs = clock.monotonic() + PATIENCE_MS;
    for (let tries = 1; ; tries++) {
      const failed = new AbortController();
      try {
        await this.#listen(AbortSignal.any([over, failed.signal]));
        return;
      } catch (error) {
        failed.abort(error);
        over.throwIfAborted();
        const { reason, message, retryAfterMs = ASK_AGAIN_MS } = classifyError(error);
        if (reason !== 'StoreUnavailable' || clock.monotonic() + retryAfterMs > untilMs) throw error;
        this.#unready = message;
        logger[tries === 1 ? 'warn' : 'debug']('the workspaces cannot be read yet; trying again', { error });
        await clock.sleep(retryAfterMs, over);
      }
    }
  }

  /** Ties everything that tells of changes to the queue; no pass runs before it is known where every workspace points. */
  async #listen(over: AbortSignal): Promise<void> {
    const { providers, store } = this.#ports;
    const { claims, index } = this.#workshop;
    // Before the list is read, so that no change falls between the two.
    await store.watch((key, cause) => this.#onNamed(key, cause, over), over);
    await claims.introduceAll(await store.list(over), over);
    this.#unready = undefined;
    for (const provider of providers) {
      provider.watch?.(
        (address) => this.#wake(index.keysOf(address)),
        () => this.#wakeSpread(index.keys()),
        over,
      );
    }
  }

  #start(): void {
    const { clock, store } = this.#ports;
    this.#controller.start(this.#term.signal);
    this.#supervisor.start(
      new Resync({
        list: (signal) => store.list(signal),
        queue: this.#queue,
        clock,
        firstPassPerSecond: this.#limits.firstPassPerSecond,
      }),
    );
    this.#supervisor.start(new StateSweep(this.#ports));
  }

  /**
   * A key is capped by its lane, so a new one is read once before it is queued: a burst of them on one hung engine would
   * take every worker. What cannot be read now is queued all the same; its pass says why.
   */
  #onNamed(key: WorkspaceKey, cause: WatchCause, over: AbortSignal): void {
    const { claims, index } = this.#workshop;
    const wake = (): void => (cause === 'edit' ? this.#wake([key]) : this.#wakeSpread([key]));
    if (index.has(key)) wake();
    else void claims.introduce(key, over).then(wake, wake);
  }

  /** Something changed for these: what failed before may go well now, so they do not wait out their backoff. */
  #wake(keys: readonly WorkspaceKey[], priority?: number): void {
    for (const key of keys) {
      this.#queue.forget(key);
      this.#queue.add(key, priority);
    }
  }

  /** Something may have been missed, and nobody knows of whom: everybody, at the pace of the first pass. */
  #wakeSpread(keys: readonly WorkspaceKey[]): void {
    const windowMs = (this.#workshop.index.size / this.#limits.firstPassPerSecond) * 1000;
    for (const key of keys) this.#queue.addAfter(key, this.#ports.clock.random() * windowMs, LOW_PRIORITY);
  }
}
