import { resolve } from 'node:path';

import { canonicalJson } from '../../domain/digest.ts';
import { terminal } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { checkSchema, formatPath } from '../../domain/schema-problems.ts';
import { workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import {
  FILES_DEFAULT_POLICY,
  workspaceSchema,
  type Policy,
  type Requests,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { removeDeclaration, writeDeclaration } from './change-declaration.ts';
import { DeclarationLedger } from './declaration-ledger.ts';
import { loadedFrom, recordAfter } from './declaration-record.ts';
import { MissingKeys } from './missing-keys.ts';
import type { Snapshot } from './read-snapshot.ts';
import { SnapshotFollower, type Look } from './snapshot-follower.ts';
import { StateDirectory } from './state-directory.ts';

export interface FilesWorkspaceStoreOptions {
  /** Root of the YAML files. */
  readonly directory: string;
  /** The option or variable that it came from, for messages. */
  readonly origin?: string | undefined;
  /** Where generations, status and tombstones are kept. Made if missing. */
  readonly stateDirectory: string;
  /**
   * `controller` (run, once) keeps the records: generations, and what became of vanished documents. `client` (every
   * other command) computes what the controller will conclude and leaves that to it, so that a command pointed at the
   * wrong directory deletes nothing.
   */
  readonly role: 'controller' | 'client';
  readonly clock: Clock;
  readonly logger: Logger;
  /** What applies where a declaration says nothing; asked each time, for it can be configured anew. Default {@link FILES_DEFAULT_POLICY}. */
  readonly defaultPolicy?: () => Policy;
  /** From an event to the look, so that one save or checkout is one look. Default 100. */
  readonly debounceMs?: number;
  /** How often the root is checked for being another one: a swapped or recreated directory sends no event. Default 1000. */
  readonly pollMs?: number;
  /** How often everything is looked at without an event, give or take a fifth. Default 30000. */
  readonly rescanMs?: number;
  /** How long a document must be missing before it counts as deleted: a checkout removes and writes. Default 1000. */
  readonly vanishGraceMs?: number;
}

type Watcher = (key: WorkspaceKey, cause: WatchCause) => void;

/**
 * Workspaces declared as YAML files. The directory is read as a whole or not at all, and a whole that cannot be read
 * leaves the last one standing.
 */
export class FilesWorkspaceStore implements WorkspaceStore {
  readonly #role: 'controller' | 'client';
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #defaultPolicy: () => Policy;
  readonly #vanishGraceMs: number;
  readonly #root: string;
  readonly #state: StateDirectory;
  readonly #ledger: DeclarationLedger;
  readonly #follower: SnapshotFollower;
  readonly #missing: MissingKeys;
  readonly #watchers = new Set<Watcher>();

  /** Fingerprints whose records this process has seen settled. */
  #settled = new Map<WorkspaceKey, string>();
  #requests: ReadonlyMap<WorkspaceKey, string> | undefined;
  /** When the last complete look began: files written since then tell their own time. */
  #lookedAtMs = Number.POSITIVE_INFINITY;
  #warned: ReadonlySet<string> = new Set();

  constructor(options: FilesWorkspaceStoreOptions) {
    const { role, clock, logger, defaultPolicy = () => FILES_DEFAULT_POLICY, vanishGraceMs = 1000 } = options;
    this.#role = role;
    this.#clock = clock;
    this.#logger = logger;
    this.#defaultPolicy = defaultPolicy;
    this.#vanishGraceMs = vanishGraceMs;
    this.#root = resolve(options.directory);
    this.#state = new StateDirectory(resolve(options.stateDirectory), clock);
    this.#ledger = new DeclarationLedger({ state: this.#state, defaultPolicy, clock });
    this.#missing = new MissingKeys(vanishGraceMs);
    this.#follower = new SnapshotFollower({
      root: this.#root,
      origin: options.origin,
      clock,
      logger,
      debounceMs: options.debounceMs ?? 100,
      pollMs: options.pollMs ?? 1000,
      rescanMs: options.rescanMs ?? 30_000,
      otherDirectories: () => this.#ledger.requestDirectories(),
      onSnapshot: (look) => this.#admit(look),
      isLookDue: () => this.#missing.pending.length > 0,
    });
  }

  /** Everything wrong with the files as of the last look, with file, line and column. */
  problems(): readonly string[] {
    const { snapshot, failure } = this.#follower;
    return [...(failure === undefined ? [] : [failure]), ...(snapshot === undefined ? [] : problemsOf(snapshot))];
  }

  unreadable(): number {
    return this.#follower.snapshot?.problems.length ?? 0;
  }

  get outdated(): string | undefined {
    const { snapshot, failure } = this.#follower;
    return snapshot === undefined ? undefined : failure;
  }

  async list(signal: AbortSignal): Promise<readonly WorkspaceKey[]> {
    const { declared } = await this.#fresh(signal);
    return [...new Set([...declared.keys(), ...(await this.#ledger.keys())])];
  }

  async get(key: WorkspaceKey, signal: AbortSignal): Promise<Loaded> {
    let declared = (await this.#fresh(signal)).declared.get(key);
    let record = await this.#ledger.record(key);
    const nowMs = this.#clock.now();
    const isSettled = declared === undefined || recordAfter(record, declared, nowMs) === record;
    if (!isSettled && this.#role === 'controller') {
      // Another process was faster than our look, or somebody took it out and put it back between two looks.
      this.#settled.delete(key);
      declared = (await this.#follower.look()).declared.get(key);
      record = await this.#ledger.record(key);
    }
    const [asked, status] = await Promise.all([this.#ledger.asked(key), this.#ledger.status(key)]);
    return loadedFrom({ key, declared, record, asked, status, defaultPolicy: this.#defaultPolicy(), nowMs });
  }

  async watch(onKey: Watcher, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    // One function may watch twice; each watch is its own.
    const watcher: Watcher = (key, cause) => onKey(key, cause);
    this.#watchers.add(watcher);
    signal.addEventListener('abort', () => this.#watchers.delete(watcher), { once: true });
    await this.#follower.follow();
  }

  async writeStatus(write: StatusWrite, signal: AbortSignal): Promise<void> {
    await this.#ledger.writeStatus(write, signal);
  }

  async finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    await this.#ledger.finishDeletion(key, fence, signal);
  }

  async apply(manifest: WorkspaceManifest, signal: AbortSignal): Promise<'created' | 'configured' | 'unchanged'> {
    const checked = checkSchema(workspaceSchema, manifest);
    if (checked.kind === 'invalid') {
      const problems = checked.problems.map(({ path, message }) => `${formatPath(path)}: ${message}`);
      throw terminal('InvalidSpec', `this is no usable Workspace: ${problems.join('; ')}`);
    }
    const key = workspaceKey(manifest.metadata.namespace ?? 'default', manifest.metadata.name);
    const declared = (await this.#now(signal)).declared.get(key);
    if (declared?.kind === 'manifest' && isSameManifest(declared.manifest, manifest)) return 'unchanged';
    if (declared?.kind === 'malformed' && declared.realPaths.length > 1) {
      throw terminal('InvalidSpec', declared.problems[0] ?? `${key} is declared more than once`);
    }
    await this.#state.exclusively(() => writeDeclaration(this.#root, manifest, declared), signal);
    await this.#now(signal);
    return declared === undefined ? 'created' : 'configured';
  }

  async delete(key: WorkspaceKey, signal: AbortSignal): Promise<boolean> {
    const declared = (await this.#now(signal)).declared.get(key);
    if (declared === undefined) return false;
    // A daemon may not have seen it yet, and a tombstone is made of the record.
    await this.#ledger.settle(new Map([[key, declared]]), this.#lookedAtMs, async () => true, signal);
    // A person says so: no grace, and no doubt about the checkout.
    const remove = (): Promise<void> => removeDeclaration(this.#root, key, declared);
    this.#report(await this.#ledger.conclude([key], signal, remove));
    await this.#now(signal);
    return true;
  }

  async annotate(key: WorkspaceKey, requests: Requests, signal: AbortSignal): Promise<boolean> {
    const declared = (await this.#fresh(signal)).declared.get(key);
    const record = await this.#ledger.record(key);
    if (declared === undefined && record === undefined) return false;
    const manifest = declared?.kind === 'manifest' ? declared.manifest : record?.manifest;
    await this.#ledger.ask(key, requests, manifest, signal);
    return true;
  }

  async close(): Promise<void> {
    this.#watchers.clear();
    await this.#follower.close();
  }

  /** The snapshot to answer from: the newest complete one. Nobody following it, that takes a look. */
  async #fresh(signal: AbortSignal): Promise<Snapshot> {
    signal.throwIfAborted();
    const { snapshot, isFollowing } = this.#follower;
    if (isFollowing && snapshot !== undefined) return snapshot;
    try {
      await this.#follower.look();
      if (this.#missing.pending.length > 0) {
        await this.#clock.sleep(this.#vanishGraceMs + 1, signal);
        await this.#follower.look();
      }
    } catch (error) {
      if (this.#follower.snapshot === undefined) throw error;
    }
    return this.#follower.snapshot ?? this.#follower.look();
  }

  /** The directory as it is now, or an error: for what people tell it to do. */
  async #now(signal: AbortSignal): Promise<Snapshot> {
    signal.throwIfAborted();
    return this.#follower.look();
  }

  /** Before a snapshot counts, the records say what follows from it; then whoever watches hears of it. */
  async #admit(look: Look): Promise<() => void> {
    const { snapshot, previous, isRecovery, startedAtMs } = look;
    const { gone, heldBack } =
      this.#role === 'controller' ? await this.#keepRecords(look) : { gone: lostKeys(look), heldBack: [] };
    const requests = await this.#ledger.requests();
    const before = this.#requests ?? requests;
    const requested = [...requests].filter(([key, token]) => before.get(key) !== token).map(([key]) => key);
    const known = isRecovery ? [...snapshot.declared.keys(), ...(await this.#ledger.keys())] : [];
    return () => {
      this.#requests = requests;
      this.#lookedAtMs = startedAtMs;
      this.#warn([...problemsOf(snapshot), ...heldBack]);
      const edited = new Set([...changedKeys(previous, snapshot), ...gone, ...requested]);
      this.#name(edited, 'edit');
      this.#name(new Set(known.filter((key) => !edited.has(key))), 'relist');
    };
  }

  /** Answers the keys that turned out to be deleted, by our own verdict or by another process. */
  async #keepRecords(
    look: Look,
  ): Promise<{ readonly gone: readonly WorkspaceKey[]; readonly heldBack: readonly string[] }> {
    const { snapshot, signal } = look;
    const { declared } = snapshot;
    const unsettled = [...declared].filter(([key, { fingerprint }]) => this.#settled.get(key) !== fingerprint);
    const isCurrent = (): Promise<boolean> => this.#follower.isCurrent(snapshot);
    const isSettled = await this.#ledger.settle(new Map(unsettled), this.#lookedAtMs, isCurrent, signal);
    if (isSettled) this.#settled = new Map([...declared].map(([key, { fingerprint }]) => [key, fingerprint]));
    else this.#follower.stir();

    const missing = await this.#ledger.undeletedKeysWithout(declared);
    const lost = [...this.#missing.pending, ...lostKeys(look)];
    const elsewhere = lost.filter((key) => !declared.has(key) && !missing.includes(key));
    const { deleted, heldBack } = this.#missing.look(snapshot, missing, this.#clock.monotonic());
    if (deleted.length > 0) this.#report(await this.#ledger.conclude(deleted, signal));
    return { gone: [...deleted, ...elsewhere], heldBack: heldBack === undefined ? [] : [heldBack] };
  }

  #name(keys: ReadonlySet<WorkspaceKey>, cause: WatchCause): void {
    for (const key of keys) for (const watcher of this.#watchers) watcher(key, cause);
  }

  #report(outcomes: ReadonlyMap<WorkspaceKey, 'tombstone' | 'orphaned'>): void {
    for (const [workspace, outcome] of outcomes) {
      if (outcome === 'tombstone') this.#logger.info('declaration gone; its plugins will be removed', { workspace });
      else
        this.#logger.warn('declaration gone; its plugins stay where they are (policy.deletion is Orphan)', {
          workspace,
        });
    }
  }

  /**
   * Says what is wrong with the files once, and again only after it was right: a controller all of it, for the log; a
   * person who asked for something else only that there is something.
   */
  #warn(problems: readonly string[]): void {
    const isForLog = this.#role === 'controller';
    const lines = isForLog ? problems : summaryOf(problems, this.#root);
    for (const line of lines)
      if (!this.#warned.has(line)) this.#logger.warn(line, isForLog ? { directory: this.#root } : {});
    this.#warned = new Set(lines);
  }
}

function summaryOf({ length }: readonly string[], root: string): readonly string[] {
  if (length === 0) return [];
  const [count, them] = length === 1 ? ['one problem', 'it'] : [`${length} problems`, 'them'];
  return [`there ${length === 1 ? 'is' : 'are'} ${count} in the files; \`plugset validate ${root}\` shows ${them}`];
}

function problemsOf({ problems, declared }: Snapshot): readonly string[] {
  const malformed = [...declared.values()].flatMap((one) => (one.kind === 'malformed' ? one.problems : []));
  return [...new Set([...problems, ...malformed])];
}

/** A first snapshot changes nothing: who begins to watch lists everything, and spreads that out. */
function changedKeys(previous: Snapshot | undefined, next: Snapshot): readonly WorkspaceKey[] {
  if (previous === undefined) return [];
  return [...next.declared]
    .filter(([key, { fingerprint }]) => previous.declared.get(key)?.fingerprint !== fingerprint)
    .map(([key]) => key);
}

function lostKeys({ previous, snapshot }: Look): readonly WorkspaceKey[] {
  return [...(previous?.declared.keys() ?? [])].filter((key) => !snapshot.declared.has(key));
}

function isSameManifest(a: WorkspaceManifest, b: WorkspaceManifest): boolean {
  return canonicalJson(withNamespace(a)) === canonicalJson(withNamespace(b));
}

function withNamespace(manifest: WorkspaceManifest): WorkspaceManifest {
  return { ...manifest, metadata: { ...manifest.metadata, namespace: manifest.metadata.namespace ?? 'default' } };
}
