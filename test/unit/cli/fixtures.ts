import type { LookResult, OnLook } from '../../../src/app.ts';
import { findCondition, type NewCondition } from '../../../src/domain/condition.ts';
import { classifyError } from '../../../src/domain/errors.ts';
import type { PluginName, WorkspaceKey } from '../../../src/domain/name.ts';
import type { Reason } from '../../../src/domain/reason.ts';
import { EMPTY_STATUS, type PluginStatus, type WorkspaceStatus } from '../../../src/domain/status.ts';
import { API_VERSION, type WorkspaceManifest } from '../../../src/domain/workspace.ts';
import type { OpenedStore } from '../../../src/stores.ts';
import type { LeaseHolder } from '../../../src/ports/leadership.ts';
import type { WorkspaceStore } from '../../../src/ports/workspace-store.ts';
import type { Unseen } from '../../../src/reconcile/dry-looks.ts';
import { whyUnseen } from '../../../src/reconcile/idle.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { MemoryControllerState } from '../../support/memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../../support/memory-store.ts';
import { runInProcess, startCli, type CliOptions, type CliRun, type RunningCli } from '../../support/run-cli.ts';

export const DIGEST_A = `sha256:${'a'.repeat(64)}` as const;
export const DIGEST_B = `sha256:${'b'.repeat(64)}` as const;

/** Of the fake clock's start, as a status has it. */
export const START = '2026-01-01T00:00:00.000Z';

export function manifest(
  name: string,
  spec: Partial<WorkspaceManifest['spec']> = {},
  namespace?: string,
): WorkspaceManifest {
  return {
    apiVersion: API_VERSION,
    kind: 'Workspace',
    metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
    spec: {
      runtime: 'claude-code',
      target: { docker: { container: `ws-${name}` } },
      plugins: [{ name: 'superpowers', source: 'github://obra/superpowers#v4' }],
      ...spec,
    },
  };
}

type Brief = readonly [type: NewCondition['type'], status: NewCondition['status'], reason: Reason, message?: string];

export function statusWith(
  conditions: readonly Brief[],
  rest: Partial<WorkspaceStatus> = {},
  generation = 1,
): WorkspaceStatus {
  return {
    ...EMPTY_STATUS,
    observedGeneration: generation,
    summary: '1/1',
    target: 'container ws-alice on engine default',
    conditions: conditions.map(([type, status, reason, message = 'as the test says']) => ({
      type,
      status,
      reason,
      message,
      observedGeneration: generation,
      lastTransitionTime: START,
    })),
    ...rest,
  };
}

export const READY = statusWith([
  ['Ready', 'True', 'Succeeded', '1 of 1 plugins as declared'],
  ['Reachable', 'True', 'Succeeded', 'looked at'],
]);

export function pluginStatus(name: string, rest: Partial<PluginStatus> = {}): PluginStatus {
  return {
    name: name as PluginName,
    state: 'Installed',
    managed: true,
    source: 'github://obra/superpowers#v4',
    revision: '0123456789abcdef0123456789abcdef01234567',
    digest: DIGEST_A,
    version: '4.0.0',
    reason: 'Succeeded',
    message: 'as declared',
    since: START,
    ...rest,
  };
}

/** A store in memory, and the commands that work on it. */
export class CliBench {
  readonly clock = new FakeClock();
  readonly backend = new MemoryStoreBackend(this.clock);
  readonly store: WorkspaceStore = new MemoryWorkspaceStore(this.backend);
  readonly state = new MemoryControllerState();
  closed = 0;
  /** Who leads, as the store says. */
  holder: LeaseHolder | undefined = { name: 'host-7', isLeading: true, since: START };

  declare(declared: WorkspaceManifest, status?: WorkspaceStatus): WorkspaceKey {
    this.backend.declare(declared);
    const key = `${declared.metadata.namespace ?? 'default'}/${declared.metadata.name}` as WorkspaceKey;
    if (status !== undefined) this.report(key, status);
    return key;
  }

  /** What a daemon's pass leaves behind. */
  report(key: WorkspaceKey, status: WorkspaceStatus): void {
    const row = this.backend.rows.get(key);
    if (row === undefined || findCondition(status.conditions, 'Ready') === undefined)
      throw new Error(`cannot report ${key}`);
    row.status = status;
  }

  start(argv: readonly string[], options: CliOptions = {}): RunningCli {
    return startCli(withStore(argv), { ...this.#options(), ...options });
  }

  run(argv: readonly string[], options: CliOptions = {}): Promise<CliRun> {
    return runInProcess(withStore(argv), { ...this.#options(), ...options });
  }

  #options(): CliOptions {
    // Commands see no more of an opened store than this.
    const opened = {
      store: this.store,
      state: this.state,
      authority: async () => 'the-authority',
      leadership: { lastHolder: async () => this.holder },
      close: async () => void (this.closed += 1),
    } as unknown as OpenedStore;
    return { clock: this.clock, openStore: async () => opened };
  }

  /** What the store says of one at whose target there is nothing to look at. */
  async unseen(key: WorkspaceKey, signal: AbortSignal): Promise<Unseen> {
    const loaded = await this.store.get(key, signal);
    return loaded.kind === 'found' ? { kind: 'unseen', why: whyUnseen(loaded.workspace) ?? '' } : loaded;
  }

  /** The looks of an app, as `look` answers; they end in an order of their own. */
  looks<T>(look: (key: WorkspaceKey, signal: AbortSignal) => Promise<LookResult<T>>) {
    return async (keys: readonly WorkspaceKey[], signal: AbortSignal, onLook: OnLook<T>): Promise<void> => {
      for (const key of keys.toReversed())
        onLook(
          key,
          await look(key, signal).catch((error: unknown) => ({ kind: 'failed', error: classifyError(error) })),
        );
    };
  }
}

/** Whatever the machine's DATABASE_URL says. */
function withStore(argv: readonly string[]): readonly string[] {
  return [...argv, '--files', 'unused'];
}
