import { resolve } from 'node:path';

import { canonicalJson } from '../../domain/digest.ts';
import { terminal } from '../../domain/errors.ts';
import type { Fence } from '../../domain/fence.ts';
import { checkSchema, formatPath } from '../../domain/schema-problems.ts';
import { workspaceKey, type WorkspaceKey } from '../../domain/name.ts';
import {
  FILES_DEFAULT_POLICY,
  workspaceSchema,
  type FleetPolicy,
  type Requests,
  type WorkspaceManifest,
} from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Loaded, StatusWrite, WatchCause, WorkspaceStore } from '../../ports/workspace-store.ts';
import { removeDeclaration, writeDeclaration } from './change-declaration.ts';
import { DeclarationLedger } from './declaration-ledger.ts';
import { loadedFrom, recordAfter } from './declaration-record.ts';
import { isEmptied, MissingKeys } from './missing-keys.ts';
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
  readonly defaultPolicy?: () => FleetPolicy;
  /** From an event to the look, so that one save or checkout is one look. Default 100. */
  readonly debounceMs?: number;
  /** How often the root is checked for being another one: a swapped or recreated directory sends no event. Default 1000. */
  readonly pollMs?: number;
  /** How often everything is looked at without an event, give or take a fifth. Default 30000. */
  readonly rescanMs?: number;
  /** How long a document must be missing before it counts as deleted: a checkout removes and writes. Default 1000. */
  readonly vanishGraceMs?: number;
  /** No declaration at all counts even where there were several. Default: it is taken for a mistake. */
  readonly allowEmpty?: boolean;
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
  readonly #defaultPolicy: () => FleetPolicy;
  readonly #vanishGraceMs: number;
  readonly #allowEmpty: boolean;
  readonly #root: string;
  readonly #origin: string | undefined;
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
  /** Why an empty directory is not believed, while it is not. */
  #emptied: string | undefined;

  constructor(options: FilesWorkspaceStoreOptions) {
    const { role, clock, logger, defaultPolicy = () => FILES_DEFAULT_POLICY, vanishGraceMs = 1000 } = options;
    this.#role = role;
    this.#clock = clock;
    this.#logger = logger;
    this.#defaultPolicy = defaultPolicy;
    this.#vanishGraceMs = vanishGraceMs;
    this.#allowEmpty = options.allowEmpty ?? false;
    this.#root = resolve(options.directory);
    this.#origin = options.origin;
    this.#state = new StateDirectory(resolve(options.stateDirectory), clock);
    this.#ledger = new DeclarationLedger({ state: this.#state, defaultPolicy, clock });
    this.#missing = new MissingKeys({ graceMs: vanishGraceMs, allowEmpty: this.#allowEmpty });
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
      isLookDue: () => this.#missing.isPending,
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
    return snapshot === undefined ? undefined : (failure ?? this.#emptied);
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
    const snapshot = await this.#now(signal);
    const declared = snapshot.declared.get(key);
    if (declared === undefined) return this.#deleteEmptied(key, snapshot, signal);
    // A daemon may not have seen it yet, and a tombstone is made of the record.
    await this.#ledger.settle(new Map([[key, declared]]), this.#lookedAtMs, async () => true, signal);
    // A person says so: no grace, and no doubt about the checkout.
    const remove = (): Promise<void> => removeDeclaration(this.#root, key, declared);
    this.#report(await this.#ledger.conclude([key], signal, remove));
    await this.#now(signal);
    return true;
  }

  /** Its document went with all others, and a person says that this one is meant. */
  async #deleteEmptied(key: WorkspaceKey, { declared, isWhole }: Snapshot, signal: AbortSignal): Promise<boolean> {
    if (!isWhole || declared.size > 0) return false;
    const outcomes = await this.#ledger.conclude([key], signal);
    this.#report(outcomes);
    return outcomes.size > 0;
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
      if (this.#missing.isPending) {
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
    const { gone, doubt, emptied } =
      this.#role === 'controller' ? await this.#keepRecords(look) : await this.#foresee(look);
    const requests = await this.#ledger.requests();
    const before = this.#requests ?? requests;
    const requested = [...requests].filter(([key, token]) => before.get(key) !== token).map(([key]) => key);
    const known = isRecovery ? [...snapshot.declared.keys(), ...(await this.#ledger.keys())] : [];
    return () => {
      this.#requests = requests;
      this.#lookedAtMs = startedAtMs;
      this.#warn([...problemsOf(snapshot), ...(doubt === undefined ? [] : [doubt])]);
      this.#tellEmptied(emptied);
      const edited = new Set([...changedKeys(previous, snapshot), ...gone, ...requested]);
      this.#name(edited, 'edit');
      this.#name(new Set(known.filter((key) => !edited.has(key))), 'relist');
    };
  }

  async #keepRecords(look: Look): Promise<Consequences> {
    const { snapshot, signal } = look;
    const { declared } = snapshot;
    const unsettled = [...declared].filter(([key, { fingerprint }]) => this.#settled.get(key) !== fingerprint);
    const isCurrent = (): Promise<boolean> => this.#follower.isCurrent(snapshot);
    const isSettled = await this.#ledger.settle(new Map(unsettled), this.#lookedAtMs, isCurrent, signal);
    if (isSettled) this.#settled = new Map([...declared].map(([key, { fingerprint }]) => [key, fingerprint]));
    else this.#follower.stir();

    const missing = await this.#ledger.undeletedKeysWithout(declared);
    const lost = [...this.#missing.undecided, ...lostKeys(look)];
    const elsewhere = lost.filter((key) => !declared.has(key) && !missing.includes(key));
    const verdict = this.#missing.look(snapshot, missing, this.#clock.monotonic());
    switch (verdict.kind) {
      case 'deleted':
        if (verdict.keys.length > 0) this.#report(await this.#ledger.conclude(verdict.keys, signal));
        return { gone: [...verdict.keys, ...elsewhere] };
      case 'unreadable':
        return { gone: elsewhere, doubt: describeDoubt(missing) };
      case 'emptied':
        return { gone: elsewhere, emptied: this.#describeEmptied(missing.length) };
    }
  }

  /** What a controller will make of it, as far as people have to know. */
  async #foresee(look: Look): Promise<Consequences> {
    const gone = lostKeys(look);
    const { snapshot } = look;
    if (snapshot.declared.size > 0) return { gone };
    const missing = await this.#ledger.undeletedKeysWithout(snapshot.declared);
    return isEmptied(snapshot, missing) && !this.#allowEmpty
      ? { gone, emptied: this.#describeEmptied(missing.length) }
      : { gone };
  }

  #describeEmptied(count: number): string {
    const named = this.#origin === undefined ? this.#root : `${this.#root} (${this.#origin})`;
    return (
      `${named} came back empty, and ${count} ${count === 1 ? 'was' : 'were'} declared: nothing is concluded from that; ` +
      'put the files back, or, if they are to go, `plugset delete` each or set store.allowEmpty'
    );
  }

  /** Once, and once more when it is over. */
  #tellEmptied(emptied: string | undefined): void {
    const isForLog = this.#role === 'controller';
    if (emptied !== undefined && this.#emptied === undefined) {
      if (isForLog) this.#logger.error(`${emptied}; what was read before stands`, { directory: this.#root });
      else this.#logger.warn(emptied);
    } else if (emptied === undefined && this.#emptied !== undefined && isForLog)
      this.#logger.info('the directory of workspaces is believed again', { directory: this.#root });
    this.#emptied = emptied;
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

/** What follows from a look. */
interface Consequences {
  /** Keys that turned out to be deleted, by our own verdict or by another process. */
  readonly gone: readonly WorkspaceKey[];
  /** Why keys that are missing do not count as deleted. */
  readonly doubt?: string;
  /** Why the whole of it is not believed. */
  readonly emptied?: string;
}

function describeDoubt(missing: readonly WorkspaceKey[]): string {
  return `${missing.join(', ')}: not found, and not taken for deleted, because some of the files cannot be read`;
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
