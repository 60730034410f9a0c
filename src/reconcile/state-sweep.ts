import { activationSchema, isAgedOut } from '../domain/activation.ts';
import { emptiedSchema, isWithinHour, removalsSchema } from '../domain/fleet.ts';
import { grantSchema, isExpired } from '../domain/grant.ts';
import { splitWorkspaceKey, type WorkspaceKey } from '../domain/name.ts';
import type { StateFolder } from '../domain/state-key.ts';
import type { WorkspaceStore } from '../ports/workspace-store.ts';
import { sweepPins, type PinSweepOptions } from './pin-sweep.ts';
import type { DocumentSchema } from './state-documents.ts';

export interface StateSweepOptions extends PinSweepOptions {
  readonly store: Pick<WorkspaceStore, 'list' | 'unread'>;
}

interface Folder {
  readonly name: StateFolder;
  /** What it says of a workspace that is declared is kept by whoever works on that. */
  readonly isKeptWhileDeclared: boolean;
  /** Whether a document says nothing any more. One that cannot be read may say something. */
  readonly isSpent: (value: unknown, nowMs: number) => boolean;
}

const FOLDERS: readonly Folder[] = [
  {
    name: 'activation',
    isKeptWhileDeclared: true,
    isSpent: (value, nowMs) => isSpent(activationSchema, value, (record) => isAgedOut(record, nowMs)),
  },
  {
    name: 'removals',
    isKeptWhileDeclared: false,
    isSpent: (value, nowMs) =>
      isSpent(removalsSchema, value, (removals) => removals.every(({ atMs }) => !isWithinHour(atMs, nowMs))),
  },
  {
    name: 'emptied',
    isKeptWhileDeclared: false,
    isSpent: (value, nowMs) =>
      isSpent(emptiedSchema, value, (emptied) => emptied.every(({ atMs }) => !isWithinHour(atMs, nowMs))),
  },
  ...(['approval', 'takeover'] as const).map((name) => ({
    name,
    isKeptWhileDeclared: false,
    isSpent: (value: unknown, nowMs: number) => isSpent(grantSchema, value, (grant) => isExpired(grant, nowMs)),
  })),
];

const FIRST_AFTER_MS = 60_000;
const INTERVAL_MS = 3_600_000;
const SWEEP_TIMEOUT_MS = 300_000;

/**
 * Removes documents about single workspaces and hosts that say nothing any more. Budgets outlive their workspace on purpose, or
 * whoever deletes and declares it again would begin with full ones; nobody comes back to them but this.
 */
export class StateSweep {
  readonly name = 'state-sweep';
  readonly stallAfterMs = INTERVAL_MS + SWEEP_TIMEOUT_MS;
  readonly #options: StateSweepOptions;

  constructor(options: StateSweepOptions) {
    this.#options = options;
  }

  /** Runs until `signal` aborts; rejects when a sweep fails. */
  async run(signal: AbortSignal, progress: () => void): Promise<void> {
    const { clock } = this.#options;
    await clock.sleep(FIRST_AFTER_MS, signal);
    for (;;) {
      await this.sweep(signal);
      progress();
      await clock.sleep(INTERVAL_MS, signal);
    }
  }

  async sweep(signal: AbortSignal): Promise<void> {
    const { state, store, clock } = this.#options;
    const declared = new Set<string>(await store.list(signal));
    const unread = store.unread?.();
    const mayBeDeclared = (key: string): boolean =>
      declared.has(key) || unread?.has(splitWorkspaceKey(key as WorkspaceKey).namespace) === true;
    for (const { name, isKeptWhileDeclared, isSpent: isOfNoUse } of FOLDERS) {
      for (const key of await state.list(name, signal)) {
        if (isKeptWhileDeclared && mayBeDeclared(key.slice(name.length + 1))) continue;
        const document = await state.get(key, signal);
        // Whoever has written it since finds it as he left it.
        if (document !== undefined && isOfNoUse(document.value, clock.now()))
          await state.remove(key, document.version, signal);
      }
    }
    await sweepPins(this.#options, signal);
  }
}

function isSpent<T>(schema: DocumentSchema<T>, value: unknown, saysNothing: (data: T) => boolean): boolean {
  const { data } = schema.safeParse(value);
  return data !== undefined && saysNothing(data);
}
