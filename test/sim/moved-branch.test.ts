import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { DEFAULT_FLEET_RESTARTS } from '../../src/domain/restart-budget.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import type { PluginSource } from '../../src/ports/plugin-source.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import { Turn } from '../../src/turn.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { MemoryControllerState, MemoryStateBackend } from '../support/memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../support/memory-store.ts';
import { RecordingLogger } from '../support/recording-logger.ts';
import { SimulatedTargets } from '../support/simulated-targets.ts';

const WORKSPACES = 500;
const [SECOND, MINUTE] = [1_000, 60_000];
const WINDOW = DEFAULT_FLEET_RESTARTS.windowMs;
/** What people run who have configured nothing. */
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  fleetRestarts: DEFAULT_FLEET_RESTARTS,
  workers: 16,
  laneLimit: 6,
  probeIntervalMs: 60 * MINUTE,
  deepIntervalMs: 180 * MINUTE,
  resolveIntervalMs: MINUTE,
  firstPassPerSecond: 50,
  graceMs: SECOND,
};

/** Incidents I-52 and G-21: a branch moves that a whole fleet follows, and the controller is restarted over it. */
describe('500 workspaces that follow one moved branch', { timeout: 120_000 }, () => {
  let fleet: Fleet;
  beforeEach(async () => {
    fleet = new Fleet();
    fleet.lead();
    // The first install of everything, and every restart that it takes.
    for (let waited = 0; waited < 300 && fleet.targets.restarts < WORKSPACES; waited++)
      await fleet.clock.advance(MINUTE);
    expect(fleet.targets.restarts).toBe(WORKSPACES);
    fleet.restartsMs.length = 0;
    await fleet.clock.advance(WINDOW);
  });
  afterEach(() => fleet.end());

  it('are restarted once each, and never more within ten minutes than the budget has', async () => {
    fleet.commit = 2;
    for (let minute = 0; minute < 240; minute++) await fleet.clock.advance(MINUTE);
    expect(fleet.restartsMs).toHaveLength(WORKSPACES);
    expect(mostWithin(WINDOW, fleet.restartsMs)).toBe(DEFAULT_FLEET_RESTARTS.restarts);
    // No slower than the budget has it, but for the time until it is noticed.
    const took = (fleet.restartsMs.at(-1) ?? 0) - (fleet.restartsMs[0] ?? 0);
    expect(took).toBeLessThan((WORKSPACES / DEFAULT_FLEET_RESTARTS.restarts) * WINDOW);
    expect(fleet.reasons()).toEqual(new Set([undefined]));
  });

  it('are told when their turn is, and keep the budget while the controller is restarted every three minutes', async () => {
    fleet.commit = 2;
    await fleet.clock.advance(2 * MINUTE);
    expect(fleet.restartsMs).toHaveLength(DEFAULT_FLEET_RESTARTS.restarts);
    expect(fleet.reasons()).toContain('RestartDeferred');
    expect(fleet.messages().some((message) => /; it is restarted at 20\d\d-\d\d-\d\dT[\d:]{8}Z$/.test(message))).toBe(
      true,
    );
    for (let minute = 0; minute < 60; minute += 3) {
      await fleet.end();
      fleet.lead();
      await fleet.clock.advance(3 * MINUTE);
    }
    expect(mostWithin(WINDOW, fleet.restartsMs)).toBe(DEFAULT_FLEET_RESTARTS.restarts);
    expect(fleet.restartsMs.length).toBeGreaterThan(3 * DEFAULT_FLEET_RESTARTS.restarts);
  });

  it('are not restarted while the controller itself is, ten times in a row', async () => {
    await fleet.end();
    fleet.commit = 2;
    for (let start = 0; start < 10; start++) {
      fleet.lead();
      await fleet.clock.advance(MINUTE);
      await fleet.end();
    }
    expect(fleet.installed(2), 'the files are in place').toBe(WORKSPACES);
    expect(fleet.restartsMs).toEqual([]);
  });

  it('install, and make, no look more while they wait than one each for the time that they were told', async () => {
    fleet.commit = 2;
    await fleet.clock.advance(2 * MINUTE);
    const { passes } = fleet;
    await fleet.clock.advance(9 * MINUTE);
    expect(fleet.passes - passes).toBeLessThan(2 * WORKSPACES);
  });
});

function mostWithin(spanMs: number, timesMs: readonly number[]): number {
  return Math.max(
    ...timesMs.map((fromMs) => timesMs.filter((atMs) => atMs >= fromMs && atMs < fromMs + spanMs).length),
  );
}

class Fleet {
  readonly clock = new FakeClock({ seed: 52 });
  readonly targets = new SimulatedTargets(this.clock);
  /** When each restart was made. */
  readonly restartsMs: number[] = [];
  /** What the branch points at. */
  commit = 1;
  passes = 0;
  readonly #backend = new MemoryStoreBackend(this.clock);
  readonly #state = new MemoryStateBackend();
  readonly #metrics = new PrometheusMetrics({ version: '0', perWorkspace: true });
  #turns = 0;
  #turn: { readonly ended: Promise<void>; readonly stop: AbortController } | undefined;

  constructor() {
    this.#metrics.leading(true);
    const { reconciled, restarted } = this.#metrics;
    this.#metrics.reconciled = (...args) => {
      this.passes++;
      reconciled.apply(this.#metrics, args);
    };
    this.#metrics.restarted = (outcome) => {
      this.restartsMs.push(this.clock.now());
      restarted.call(this.#metrics, outcome);
    };
    for (let n = 0; n < WORKSPACES; n++)
      this.#backend.declare({
        apiVersion: API_VERSION,
        kind: 'Workspace',
        metadata: { name: `ws-${n}` },
        spec: {
          runtime: 'claude-code',
          target: { directory: { path: `/srv/ws-${n}` } },
          plugins: [{ name: 'alpha', source: 'github://acme/alpha#main' }],
        },
      });
  }

  lead(): void {
    const stop = new AbortController();
    const ports = {
      store: new MemoryWorkspaceStore(this.#backend),
      state: new MemoryControllerState(this.#state),
      providers: [this.targets],
      host: this.targets,
      registry: new SourceRegistry([this.#forge()]),
      secrets: new LocalSecrets([], {}),
      artifacts: { get: async (_: unknown, revision: string) => memoryArtifact({ 'tool.sh': `${revision}\n` }) },
      profiles: BUILT_IN_PROFILES,
      clock: this.clock,
      logger: new RecordingLogger(),
      metrics: this.#metrics,
    };
    const fence = { authority: 'us', epoch: 1, n: ++this.#turns };
    const term = { fence, signal: new AbortController().signal, release: async () => undefined };
    const ended = new Turn(ports, LIMITS, term).run(stop.signal);
    ended.catch(() => undefined);
    this.#turn = { ended, stop };
  }

  async end(): Promise<void> {
    this.#turn?.stop.abort();
    for (let waited = 0; waited < 5; waited++) await this.clock.advance(SECOND);
    await this.#turn?.ended;
    this.#turn = undefined;
  }

  reasons(): ReadonlySet<string | undefined> {
    return new Set(this.#pending().map((condition) => condition?.reason));
  }

  messages(): readonly string[] {
    return this.#pending().flatMap((condition) => condition?.message ?? []);
  }

  /** How many have what the branch pointed at after so many moves. */
  installed(commit: number): number {
    const paths = Array.from({ length: WORKSPACES }, (_, n) => `/srv/ws-${n}`);
    const revisions = paths.map((path) => this.targets.installed(path).get('alpha' as never)?.receipt?.revision);
    return revisions.filter((revision) => revision === revisionOf(commit)).length;
  }

  #pending() {
    return Array.from({ length: WORKSPACES }, (_, n) => {
      const row = this.#backend.rows.get(workspaceKey('default', `ws-${n}`));
      return row?.status === undefined ? undefined : findCondition(row.status.conditions, 'ActivationPending');
    });
  }

  #forge(): PluginSource {
    return {
      schemes: ['github'],
      parse: (ref) => ({ ref, group: ref.spec, selector: ref.spec, subPath: '', pinned: false }),
      resolve: async (wanted) => new Map(wanted.map((one) => [one, revisionOf(this.commit)])),
      async *fetch() {},
    };
  }
}

function revisionOf(commit: number): string {
  return commit.toString(16).padStart(40, '0');
}
