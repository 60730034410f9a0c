import { transient } from '../../domain/errors.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics, ReflectorState } from '../../ports/metrics.ts';
import type { WatchCause } from '../../ports/workspace-store.ts';
import type { KubeClient } from './kube-client.ts';
import { KubeRefusal } from './kube-refusal.ts';
import type { Change } from './object-store.ts';
import { stateOfAll } from './reflector-states.ts';
import { Reflector, type ChangeCause } from './reflector.ts';
import { answered } from './store-answer.ts';
import { collectionOf } from './workspace-api.ts';
import { isEdited, keptFrom, type KeptWorkspace, type WorkspaceResource } from './workspace-object.ts';

export interface WorkspaceCopyOptions {
  readonly client: KubeClient;
  /** Left out: all of the cluster. */
  readonly namespaces: readonly string[] | undefined;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'kubeListed' | 'kubeWatchOpened' | 'kubeWatchEnded' | 'kubeMissed'>;
  /** A pass over it has something new to see. */
  readonly onEdit: (key: WorkspaceKey, cause: WatchCause) => void;
}

/** What we have written comes back within milliseconds; a watch that has just broken off takes longer. */
const OWN_WRITE_MS = 5_000;
const EVERYWHERE = '';
const RESOURCE = 'workspaces';

/** A copy of all workspaces that are read: of the whole cluster, or of each of some namespaces. */
export class WorkspaceCopy {
  readonly #options: WorkspaceCopyOptions;
  /** By namespace. */
  readonly #reflectors: ReadonlyMap<string, Reflector<KeptWorkspace>>;
  readonly #stop = new AbortController();
  /** Called after every change. */
  readonly #onChange = new Set<() => void>();
  #running: Promise<unknown> | undefined;

  constructor(options: WorkspaceCopyOptions) {
    this.#options = options;
    const namespaces = options.namespaces ?? [EVERYWHERE];
    this.#reflectors = new Map([...new Set(namespaces)].map((one) => [one, this.#reflectorOf(one)]));
  }

  /** Whether it has been asked for: then what it knows may be older than whoever asks next. */
  get isBegun(): boolean {
    return this.#running !== undefined;
  }

  /** Throws where there plainly can be no copy now: of no namespace is there a list. Begins with none. */
  async probe(signal: AbortSignal): Promise<void> {
    const { client } = this.#options;
    const query = { limit: 1 };
    const asked = [...this.#reflectors.keys()].map((namespace) =>
      client.call({ method: 'GET', path: listPathOf(namespace), query }, signal),
    );
    await this.#answered(
      Promise.any(asked).catch(({ errors: [first] }: AggregateError) => Promise.reject(first)),
      signal,
    );
  }

  /** Resolves when there is a copy. Begins with it when it is asked for first. Throws as soon as there plainly is none yet. */
  async sync(signal: AbortSignal): Promise<void> {
    this.#running ??= Promise.all(this.#all.map((reflector) => reflector.run(this.#stop.signal)));
    const isSynced = this.#all.every(({ hasSynced, isRefused }) => hasSynced || isRefused);
    if (isSynced && this.#all.some(({ hasSynced }) => hasSynced)) return;
    await this.#answered(
      this.#eachReadable((reflector) => reflector.whenSynced(signal)),
      signal,
    );
  }

  /** Resolves when the copy is at least as new as this call. */
  async refresh(signal: AbortSignal): Promise<void> {
    await this.#answered(
      this.#eachReadable(async (reflector) => {
        // Its list is tried again in its own time, which others do not wait for.
        if (reflector.refusal !== undefined) throw reflector.refusal;
        await reflector.refresh(signal);
      }),
      signal,
    );
  }

  get(key: WorkspaceKey): KeptWorkspace | undefined {
    return this.#of(key)?.get(key);
  }

  *values(): Iterable<KeptWorkspace> {
    for (const reflector of this.#all) yield* reflector.values();
  }

  /** Resolves when the copy has what we have written, or cannot be expected to have it soon. */
  async until(key: WorkspaceKey, version: string | undefined, signal: AbortSignal): Promise<void> {
    if (version === undefined || this.#running === undefined) return;
    await this.#of(key)?.until(version, signal, OWN_WRITE_MS);
  }

  /** The same for an object that goes. */
  async untilGone({ key, uid }: KeptWorkspace, signal: AbortSignal): Promise<void> {
    await this.#until(() => this.get(key)?.uid !== uid, signal);
  }

  /** The same for one that goes, or waits for somebody from now on. */
  async untilDeleted(key: WorkspaceKey, uid: string, signal: AbortSignal): Promise<void> {
    await this.#until(() => {
      const kept = this.get(key);
      return kept?.uid !== uid || kept.deletedAtMs !== undefined;
    }, signal);
  }

  /** Of the namespaces that may not be read while others may; where none may, there is no store. */
  refusals(): ReadonlyMap<string, string> {
    const refused = [...this.#reflectors].flatMap(([namespace, { refusal }]) =>
      refusal === undefined ? [] : [[namespace, refusal.message] as const],
    );
    return new Map(refused.length === this.#reflectors.size ? [] : refused);
  }

  outdated(): string | undefined {
    const refusals = this.refusals();
    const readable = [...this.#reflectors].filter(([namespace]) => !refusals.has(namespace));
    return readable.map(([, reflector]) => reflector.outdated()).find((why) => why !== undefined);
  }

  problem(): string | undefined {
    return this.#all.map((reflector) => reflector.problem()).find((why) => why !== undefined);
  }

  states(): readonly ReflectorState[] {
    return stateOfAll(RESOURCE, this.#all);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  get #all(): readonly Reflector<KeptWorkspace>[] {
    return [...this.#reflectors.values()];
  }

  #of(key: WorkspaceKey): Reflector<KeptWorkspace> | undefined {
    return this.#reflectors.get(EVERYWHERE) ?? this.#reflectors.get(splitWorkspaceKey(key).namespace);
  }

  #reflectorOf(namespace: string): Reflector<KeptWorkspace> {
    const { client, logger, metrics } = this.#options;
    return new Reflector<KeptWorkspace>({
      resource: RESOURCE,
      collection: { path: listPathOf(namespace) },
      client,
      logger: namespace === EVERYWHERE ? logger : logger.with({ namespace }),
      metrics,
      transform: (resource) => this.#keptFrom(resource),
      onChange: (change, cause) => this.#tell(change, cause),
    });
  }

  #keptFrom(resource: WorkspaceResource): KeptWorkspace {
    const { namespace = '', name } = resource.metadata;
    return keptFrom(resource, this.get(`${namespace}/${name}` as WorkspaceKey));
  }

  #tell(change: Change<KeptWorkspace>, cause: ChangeCause): void {
    for (const look of this.#onChange) look();
    if (change.kind === 'changed' && !isEdited(change.before, change.object)) return;
    this.#options.onEdit(change.key as WorkspaceKey, cause === 'watch' ? 'edit' : 'relist');
  }

  async #until(isThere: () => boolean, signal: AbortSignal): Promise<void> {
    if (this.#running === undefined || isThere()) return;
    const deadline = new Deadline(this.#options.client.clock, OWN_WRITE_MS, signal);
    let look = (): void => undefined;
    const heard = new Promise<void>((resolve) => {
      look = (): void => (isThere() ? resolve() : undefined);
    });
    this.#onChange.add(look);
    try {
      await deadline.race(heard);
    } catch (error) {
      if (deadline.cause !== 'expired') throw error;
    } finally {
      this.#onChange.delete(look);
      deadline.clear();
    }
  }

  /** Fails where none may be read, and where any of them fails otherwise. */
  async #eachReadable(ask: (reflector: Reflector<KeptWorkspace>) => Promise<void>): Promise<void> {
    const refusals = await Promise.all(
      this.#all.map(async (reflector) => {
        try {
          await ask(reflector);
          return undefined;
        } catch (error) {
          if (!reflector.isRefused) throw error;
          return reflector.refusal;
        }
      }),
    );
    const [first] = refusals;
    if (first !== undefined && refusals.every((refusal) => refusal !== undefined)) throw first;
  }

  async #answered(work: Promise<unknown>, signal: AbortSignal): Promise<void> {
    const told = work.catch((thrown: unknown) => {
      throw thrown instanceof KubeRefusal && thrown.status === 404 ? noDefinition(thrown) : thrown;
    });
    await answered(told, signal);
  }
}

function listPathOf(namespace: string): string {
  return collectionOf(namespace === EVERYWHERE ? undefined : namespace);
}

function noDefinition(refusal: KubeRefusal): Error {
  const advice = 'put it there: plugset manifests crd | kubectl apply --server-side -f -';
  return transient('StoreUnavailable', `the cluster has no custom resource Workspace; ${advice}`, refusal);
}
