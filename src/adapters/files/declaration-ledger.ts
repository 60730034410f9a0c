import { aborted } from '../../domain/errors.ts';
import { canonicalJson } from '../../domain/digest.ts';
import type { Fence } from '../../domain/fence.ts';
import type { WorkspaceKey } from '../../domain/name.ts';
import { askedAfter, type AskedFor } from '../../domain/requests.ts';
import { EMPTY_STATUS, type WorkspaceStatus } from '../../domain/status.ts';
import type { Policy, Requests, WorkspaceManifest } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import { mapAtOnce } from '../../ports/map-at-once.ts';
import type { StatusWrite } from '../../ports/workspace-store.ts';
import {
  deletionPolicy,
  parseRecord,
  parseRequests,
  recordAfter,
  type DeclarationRecord,
} from './declaration-record.ts';
import type { Declared } from './read-snapshot.ts';
import { fileOf, type StateDirectory } from './state-directory.ts';

const RECORDS = 'workspaces';
const STATUSES = 'status';
const REQUESTS = 'requests';

/** Disk flushes that are under way together, so that a thousand first records do not take a thousand times one flush. */
const WRITES_AT_ONCE = 16;

export interface LedgerOptions {
  readonly state: StateDirectory;
  readonly defaultPolicy: () => Policy;
  readonly clock: Clock;
}

/** What the state directory says about workspaces, and the rules by which it changes. Every change is made under its lock. */
export class DeclarationLedger {
  readonly #state: StateDirectory;
  readonly #defaultPolicy: () => Policy;
  readonly #clock: Clock;

  constructor(options: LedgerOptions) {
    this.#state = options.state;
    this.#defaultPolicy = options.defaultPolicy;
    this.#clock = options.clock;
  }

  keys(): Promise<readonly WorkspaceKey[]> {
    return this.#state.keys(RECORDS);
  }

  /** Recorded keys that have no document now and are not known as deleted. */
  async undeletedKeysWithout(declared: ReadonlyMap<WorkspaceKey, unknown>): Promise<readonly WorkspaceKey[]> {
    const missing = (await this.keys()).filter((key) => !declared.has(key));
    const records = await Promise.all(missing.map((key) => this.record(key)));
    return missing.filter((_, index) => records[index] !== undefined && records[index].deletedAt === undefined);
  }

  async record(key: WorkspaceKey): Promise<DeclarationRecord | undefined> {
    return parseRecord(key, await this.#state.read(fileOf(RECORDS, key)));
  }

  async status(key: WorkspaceKey): Promise<WorkspaceStatus> {
    // Written by us, whole or not at all; an older plugset may have known fewer fields.
    return {
      ...EMPTY_STATUS,
      ...((await this.#state.read(fileOf(STATUSES, key))) as Partial<WorkspaceStatus> | undefined),
    };
  }

  async asked(key: WorkspaceKey): Promise<AskedFor> {
    return parseRequests(key, await this.#state.read(fileOf(REQUESTS, key)));
  }

  /** Where requests appear. */
  requestDirectories(): Promise<readonly string[]> {
    return this.#state.directories(REQUESTS);
  }

  /** Every request there is, to find out which are new. */
  async requests(): Promise<ReadonlyMap<WorkspaceKey, string>> {
    const keys = await this.#state.keys(REQUESTS);
    return new Map(await Promise.all(keys.map(async (key) => [key, canonicalJson(await this.asked(key))] as const)));
  }

  /**
   * Brings the records up to what is declared. `lookedAtMs` is when the directory was last seen otherwise: a file that was
   * written since then says itself when; a checkout with older times was declared when we saw it. `false`, and nothing
   * done, when `isCurrent` says that it has changed again: another process may have recorded that already.
   */
  async settle(
    declared: ReadonlyMap<WorkspaceKey, Declared>,
    lookedAtMs: number,
    isCurrent: () => Promise<boolean>,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (declared.size === 0) return true;
    return this.#state.exclusively(async () => {
      if (!(await isCurrent())) return false;
      await mapAtOnce(WRITES_AT_ONCE, [...declared], (one) => this.#settleOne(...one, lookedAtMs));
      return true;
    }, signal);
  }

  /**
   * The documents of these keys are gone for good: what policy wants removed becomes a tombstone, the rest is forgotten.
   * `before` removes them, where that is still to be done; nobody comes between. Answers what became of each that was
   * still declared.
   */
  conclude(
    keys: readonly WorkspaceKey[],
    signal: AbortSignal,
    before: () => Promise<void> = async () => {},
  ): Promise<ReadonlyMap<WorkspaceKey, 'tombstone' | 'orphaned'>> {
    return this.#state.exclusively(async () => {
      await before();
      const outcomes = new Map<WorkspaceKey, 'tombstone' | 'orphaned'>();
      for (const key of keys) {
        const record = await this.record(key);
        if (record !== undefined && record.deletedAt === undefined)
          outcomes.set(key, await this.#concludeOne(key, record));
      }
      return outcomes;
    }, signal);
  }

  writeStatus({ key, status, fence }: StatusWrite, signal: AbortSignal): Promise<void> {
    return this.#state.exclusively(async () => {
      await this.#admit(fence);
      if ((await this.record(key)) !== undefined) await this.#state.write(fileOf(STATUSES, key), status);
    }, signal);
  }

  finishDeletion(key: WorkspaceKey, fence: Fence, signal: AbortSignal): Promise<void> {
    return this.#state.exclusively(async () => {
      await this.#admit(fence);
      if ((await this.record(key))?.deletedAt !== undefined) await this.#forget(key);
    }, signal);
  }

  /** Adds to what was asked for; `manifest` is the declaration that it stands beside. */
  ask(
    key: WorkspaceKey,
    requests: Requests,
    manifest: WorkspaceManifest | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    return this.#state.exclusively(async () => {
      await this.#state.write(fileOf(REQUESTS, key), askedAfter(await this.asked(key), requests, manifest));
    }, signal);
  }

  async #settleOne(key: WorkspaceKey, declared: Declared, lookedAtMs: number): Promise<void> {
    const record = await this.record(key);
    const now = this.#clock.now();
    const isFresh = declared.modifiedAtMs > lookedAtMs && declared.modifiedAtMs <= now;
    const after = recordAfter(record, declared, isFresh ? declared.modifiedAtMs : now);
    if (after !== record) await this.#state.write(fileOf(RECORDS, key), after, true);
  }

  async #concludeOne(key: WorkspaceKey, record: DeclarationRecord): Promise<'tombstone' | 'orphaned'> {
    if (record.manifest !== undefined && deletionPolicy(record, this.#defaultPolicy()) === 'Remove') {
      const deletedAt = new Date(this.#clock.now()).toISOString();
      await this.#state.write(fileOf(RECORDS, key), { ...record, deletedAt }, true);
      return 'tombstone';
    }
    await this.#forget(key);
    return 'orphaned';
  }

  /** The record goes last: until then the key is still known and the next try removes the rest. */
  async #forget(key: WorkspaceKey): Promise<void> {
    await this.#state.remove(fileOf(REQUESTS, key));
    await this.#state.remove(fileOf(STATUSES, key));
    await this.#state.remove(fileOf(RECORDS, key));
  }

  /**
   * Refuses an older turn than one that has written here. One state directory has one line of turns, whatever the
   * authority was called meanwhile.
   */
  async #admit(fence: Fence): Promise<void> {
    const seen = (await this.#state.read('fence.json')) as Fence | undefined;
    if (seen !== undefined && (fence.epoch < seen.epoch || (fence.epoch === seen.epoch && fence.n < seen.n))) {
      throw aborted(`turn ${fence.n} of this process is over: turn ${seen.n} has written to ${this.#state.path}`);
    }
    const isNew =
      seen === undefined || seen.epoch !== fence.epoch || seen.n !== fence.n || seen.authority !== fence.authority;
    if (isNew) await this.#state.write('fence.json', fence, true);
  }
}
