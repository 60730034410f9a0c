import { canonicalJson } from '../../src/domain/digest.ts';
import { aborted, transient, waiting } from '../../src/domain/errors.ts';
import type { Fence } from '../../src/domain/fence.ts';
import { workspaceKey, type WorkspaceKey } from '../../src/domain/name.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../src/domain/status.ts';
import {
  DEFAULT_POLICY,
  REQUESTED_AT_ANNOTATION,
  workspaceFrom,
  type FleetPolicy,
  type Requests,
  type WorkspaceManifest,
} from '../../src/domain/workspace.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../src/ports/workspace-store.ts';

interface Row {
  manifest: WorkspaceManifest;
  generation: number;
  declaredAtMs: number;
  deleting: boolean;
  /** Its deletion waits for its clean-up. */
  claimed: boolean;
  problems: readonly string[];
  status: WorkspaceStatus;
}

type Watcher = (key: WorkspaceKey, cause: WatchCause) => void;

/** What several {@link MemoryWorkspaceStore}s share, and what a test does to it past the port. */
export class MemoryStoreBackend {
  readonly rows = new Map<WorkspaceKey, Row>();
  defaultPolicy: FleetPolicy = DEFAULT_POLICY;
  /** A deletion waits only for whoever has claimed the workspace. */
  needsClaims = false;
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();
  readonly #failures: Error[] = [];
  #isBroken = false;
  #fence: Fence | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  declare(manifest: WorkspaceManifest): void {
    const key = keyOf(manifest);
    const row = this.rows.get(key);
    const isSameSpec =
      row !== undefined && row.problems.length === 0 && !row.deleting && equal(row.manifest.spec, manifest.spec);
    this.rows.set(key, {
      manifest: structuredClone(manifest),
      generation: isSameSpec ? row.generation : (row?.generation ?? 0) + 1,
      declaredAtMs: isSameSpec ? row.declaredAtMs : this.#clock.now(),
      deleting: false,
      claimed: row?.claimed ?? false,
      problems: [],
      status: row?.status ?? EMPTY_STATUS,
    });
    this.name(key, 'edit');
  }

  remove(key: WorkspaceKey): boolean {
    const row = this.rows.get(key);
    if (row === undefined || row.deleting) return false;
    if (this.needsClaims && !row.claimed) this.rows.delete(key);
    row.deleting = true;
    row.declaredAtMs = this.#clock.now();
    row.problems = [];
    this.name(key, 'edit');
    return true;
  }

  malform(key: WorkspaceKey, problem = 'made unusable by the test'): void {
    const row = this.rows.get(key);
    if (row === undefined) throw new Error(`nobody declared ${key}`);
    row.problems = [problem];
    row.generation += 1;
    this.name(key, 'edit');
  }

  /** Every call fails and no change is named, until {@link heal}. */
  break(): void {
    this.#isBroken = true;
  }

  heal(): void {
    this.#isBroken = false;
    for (const key of this.rows.keys()) this.name(key, 'relist');
  }

  /** The next call of any store fails with this. */
  failNext(error: Error = unavailable()): void {
    this.#failures.push(error);
  }

  subscribe(watcher: Watcher): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  name(key: WorkspaceKey, cause: WatchCause): void {
    if (this.#isBroken) return;
    for (const watcher of [...this.#watchers]) watcher(key, cause);
  }

  /** A call arrives: fails as the test said, or as its signal says. */
  admit(signal: AbortSignal): void {
    signal.throwIfAborted();
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure;
    if (this.#isBroken) throw unavailable();
  }

  admitFence(fence: Fence): void {
    const seen = this.#fence;
    const isOlder =
      seen !== undefined && (fence.epoch < seen.epoch || (fence.epoch === seen.epoch && fence.n < seen.n));
    if (isOlder) throw aborted(`turn ${fence.n} is over: the store has seen turn ${seen.n}`);
    this.#fence = fence;
  }
}

/** A store without a disk or a server, for tests of what stands on the port. Passes the suite of the port. */
export class MemoryWorkspaceStore implements WorkspaceStore {
  readonly #backend: MemoryStoreBackend;
  readonly #unsubscribes = new Set<() => void>();

  constructor(backend: MemoryStoreBackend) {
    this.#backend = backend;
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    this.#backend.admit(signal);
    return [...this.#backend.rows.keys()];
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    this.#backend.admit(signal);
    const row = this.#backend.rows.get(key);
    if (row === undefined) return { kind: 'absent' };
    const { generation, declaredAtMs, deleting, problems } = row;
    const status = structuredClone(row.status);
    if (problems.length > 0)
      return {
        kind: 'malformed',
        key,
        generation,
        problems,
        deleting,
        requestedAt: row.manifest.metadata.annotations?.[REQUESTED_AT_ANNOTATION],
        status,
      };
    const workspace = workspaceFrom(structuredClone(row.manifest), {
      generation,
      declaredAtMs,
      deleting,
      defaultPolicy: this.#backend.defaultPolicy,
      originOf: (_, name) => `memory (${key}, ${name})`,
    });
    return { kind: 'found', workspace, status };
  }

  async watch(onKey: Watcher, signal: AbortSignal): Promise<void> {
    this.#backend.admit(signal);
    const unsubscribe = this.#backend.subscribe(onKey);
    this.#unsubscribes.add(unsubscribe);
    signal.addEventListener('abort', unsubscribe, { once: true });
  }

  async writeStatus({ key, status, fence }: StatusWrite, signal: AbortSignal): Promise<void> {
    this.#backend.admit(signal);
    this.#backend.admitFence(fence);
    const row = this.#backend.rows.get(key);
    if (row !== undefined) row.status = structuredClone(status);
  }

  async finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    this.#backend.admit(signal);
    this.#backend.admitFence(fence);
    if (this.#backend.rows.get(key)?.deleting === true) this.#backend.rows.delete(key);
  }

  async apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<'created' | 'configured' | 'unchanged'> {
    this.#backend.admit(signal);
    const row = this.#backend.rows.get(keyOf(manifest));
    const isUsable = row !== undefined && !row.deleting && row.problems.length === 0;
    if (isUsable && equal(normalized(row.manifest), normalized(manifest))) return 'unchanged';
    this.#backend.declare(manifest);
    return row === undefined || row.deleting ? 'created' : 'configured';
  }

  async delete(key: WorkspaceKey, signal: AbortSignal): Promise<boolean> {
    this.#backend.admit(signal);
    return this.#backend.remove(key);
  }

  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    this.#backend.admit(signal);
    const row = this.#backend.rows.get(key);
    if (row === undefined) return false;
    const { metadata } = row.manifest;
    row.manifest.metadata = { ...metadata, annotations: { ...metadata.annotations, ...requests } };
    this.#backend.name(key, 'edit');
    return true;
  }

  async close(): Promise<void> {
    for (const unsubscribe of this.#unsubscribes) unsubscribe();
    this.#unsubscribes.clear();
  }
}

/** One whose deletions have to be claimed, as with custom resources. */
export class ClaimingMemoryStore extends MemoryWorkspaceStore {
  /** Every claim fails with this, while it is set. */
  refusal: Error | undefined;
  readonly #backend: MemoryStoreBackend;

  constructor(backend: MemoryStoreBackend) {
    super(backend);
    this.#backend = backend;
    backend.needsClaims = true;
  }

  async claim(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    this.#backend.admit(signal);
    this.#backend.admitFence(fence);
    if (this.refusal !== undefined) throw this.refusal;
    const row = this.#backend.rows.get(key);
    if (row === undefined || row.deleting) throw waiting('Deleting', `${key} is gone or being deleted`, 1000);
    row.claimed = true;
  }
}

function keyOf({ metadata }: WorkspaceManifest): WorkspaceKey {
  return workspaceKey(metadata.namespace ?? 'default', metadata.name);
}

function normalized(manifest: WorkspaceManifest): WorkspaceManifest {
  return { ...manifest, metadata: { ...manifest.metadata, namespace: manifest.metadata.namespace ?? 'default' } };
}

function equal(a: unknown, b: unknown): boolean {
  return canonicalJson(a) === canonicalJson(b);
}

function unavailable(): Error {
  return transient('StoreUnavailable', 'the store is down, says the test');
}
