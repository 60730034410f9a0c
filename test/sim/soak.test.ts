import { getEventListeners } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { expect, test } from 'vitest';

import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { findCondition } from '../../src/domain/condition.ts';
import { transient } from '../../src/domain/errors.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { workspaceKey } from '../../src/domain/name.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { API_VERSION } from '../../src/domain/workspace.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import type { Logger } from '../../src/ports/logger.ts';
import type { PluginSource } from '../../src/ports/plugin-source.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import { Turn } from '../../src/turn.ts';
import { FakeClock, seededRandom } from '../support/fake-clock.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { MemoryControllerState, MemoryStateBackend } from '../support/memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../support/memory-store.ts';
import { SimulatedTargets } from '../support/simulated-targets.ts';

/*
 * A day of a fleet, in which people edit, delete and add workspaces, branches move, somebody takes plugins away by hand,
 * the forge and the store fail for a while, and the controller is started again every three hours. Nothing of what the
 * controller holds may grow with the time it runs: memory, timers, listeners, documents, statuses.
 */

const WORKSPACES = 1000;
const HOURS = 24;
const [MINUTE, HOUR] = [60_000, 3_600_000];
const PLUGINS = ['alpha', 'beta', 'gamma', 'delta'];
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 16,
  laneLimit: 6,
  // Every pass is work for this test too; a day of the default 30 s is three million of them.
  probeIntervalMs: HOUR,
  deepIntervalMs: 3 * HOUR,
  resolveIntervalMs: 5 * MINUTE,
  firstPassPerSecond: 50,
  graceMs: 1_000,
};
const QUIET: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => QUIET,
};

test(
  'a day with a thousand workspaces leaves nothing behind in the process or the store',
  { timeout: 240_000 },
  async () => {
    const soak = new Soak();
    const footprints = new Map<number, Footprint>();
    for (let hour = 1; hour <= HOURS; hour++) {
      await soak.hour(hour);
      if (hour % 3 === 0) await soak.restart();
      if (hour % 6 === 0) footprints.set(hour, await soak.footprint());
    }
    await soak.expectConverged();
    await soak.stop();
    const [early, late] = [footprints.get(6), footprints.get(24)];
    if (early === undefined || late === undefined) throw new Error('the day had no hours');
    expect(soak.passes, 'the day was no day').toBeGreaterThan(30 * WORKSPACES);
    expect(late.heapMiB, JSON.stringify([...footprints])).toBeLessThan(early.heapMiB * 1.02 + 0.5);
    expect(late.timers).toBeLessThan(early.timers + 20);
    expect(late.resources).toBeLessThanOrEqual(early.resources);
    expect(late.listeners).toBeLessThan(early.listeners + 20);
    expect(late.rows).toBe(WORKSPACES);
    expect(late.documents, 'documents of workspaces that are gone').toBeLessThanOrEqual(2 * WORKSPACES + 10);
    expect(late.documentBytes).toBeLessThan(2_048);
    expect(late.statusBytes).toBeLessThan(16_384);
    expect(soak.clock.pendingTimers).toBe(0);
  },
);

interface Footprint {
  readonly heapMiB: number;
  /** Of the clock, those of the queue and of loops among them. */
  readonly timers: number;
  /** Handles and timers of Node itself. */
  readonly resources: number;
  /** On the signal of the term, which everything that goes on hangs on. */
  readonly listeners: number;
  readonly rows: number;
  readonly documents: number;
  /** Of the largest one. */
  readonly documentBytes: number;
  readonly statusBytes: number;
}

class Soak {
  readonly clock = new FakeClock({ seed: 24 });
  readonly #random = seededRandom(24);
  readonly #backend = new MemoryStoreBackend(this.clock);
  readonly #state = new MemoryStateBackend();
  readonly #targets = new SimulatedTargets(this.clock);
  readonly #metrics = new PrometheusMetrics({ version: '0', perWorkspace: true });
  readonly #names: string[] = [];
  readonly #wanted = new Map<string, readonly string[]>();
  /** Deleted since the last look at what is there. */
  readonly #gone: string[] = [];
  #named = 0;
  /** What the branch of every plugin points at. */
  #commit = 1;
  #isForgeDown = false;
  #turns = 0;
  #turn: { readonly ended: Promise<void>; readonly stop: AbortController; readonly term: AbortController } | undefined;
  passes = 0;
  /** A few for each commit. */
  readonly #artifacts = new Map<string, Artifact>();

  constructor() {
    this.#metrics.leading(true);
    const { reconciled } = this.#metrics;
    this.#metrics.reconciled = (...args) => {
      this.passes++;
      reconciled.apply(this.#metrics, args);
    };
    while (this.#names.length < WORKSPACES) this.#add();
    this.#lead();
  }

  /** What happens to a fleet in an hour, ten minutes at a time. */
  async hour(hour: number): Promise<void> {
    for (let tenth = 0; tenth < 6; tenth++) {
      for (let edit = 0; edit < 5; edit++) this.#declare(this.#name());
      for (let hand = 0; hand < 5; hand++) this.#targets.drift(pathOf(this.#name()));
      for (let gone = 0; gone < 2; gone++) this.#replace();
      if (tenth === 0 && hour % 12 === 2) this.#commit++;
      this.#isForgeDown = tenth === 3;
      const isStoreDown = tenth === 4 && hour % 3 === 1;
      if (isStoreDown) this.#backend.break();
      await this.clock.advance(MINUTE);
      if (isStoreDown) this.#backend.heal();
      await this.clock.advance(9 * MINUTE);
    }
  }

  async restart(): Promise<void> {
    await this.#end();
    this.#lead();
    await this.clock.advance(MINUTE);
  }

  async footprint(): Promise<Footprint> {
    // What was done in the last minutes has had its retries by then.
    await this.clock.advance(10 * MINUTE);
    await this.#metrics.expose();
    for (const name of this.#gone.splice(0)) this.#targets.destroy(pathOf(name));
    collectGarbage();
    const { documents } = this.#state;
    const longest = (texts: Iterable<string>): number => Math.max(0, ...Array.from(texts, (text) => text.length));
    const term = this.#turn?.term.signal ?? new AbortController().signal;
    return {
      heapMiB: process.memoryUsage().heapUsed / 1024 / 1024,
      timers: this.clock.pendingTimers,
      resources: process.getActiveResourcesInfo().length,
      listeners: getEventListeners(term, 'abort').length,
      rows: this.#backend.rows.size,
      documents: documents.size,
      documentBytes: longest(Array.from(documents.values(), ({ text }) => text)),
      statusBytes: longest(Array.from(this.#backend.rows.values(), ({ status }) => JSON.stringify(status))),
    };
  }

  async expectConverged(): Promise<void> {
    await this.clock.advance(HOUR);
    for (const name of this.#names) {
      const status = this.#backend.rows.get(workspaceKey('default', name))?.status;
      const ready = findCondition(status?.conditions ?? [], 'Ready');
      expect(ready, name).toMatchObject({ status: 'True' });
      expect([...this.#targets.installed(pathOf(name)).keys()].toSorted(), name).toEqual(this.#wanted.get(name));
    }
  }

  async stop(): Promise<void> {
    await this.#end();
    this.#metrics.leading(false);
  }

  #lead(): void {
    const [stop, term] = [new AbortController(), new AbortController()];
    const ports = {
      store: new MemoryWorkspaceStore(this.#backend),
      state: new MemoryControllerState(this.#state),
      providers: [this.#targets],
      host: this.#targets,
      registry: new SourceRegistry([this.#forge()]),
      secrets: new LocalSecrets([], {}),
      artifacts: {
        get: async (source: { readonly selector: string }, revision: string) =>
          this.#artifact(source.selector, revision),
      },
      profiles: BUILT_IN_PROFILES,
      clock: this.clock,
      logger: QUIET,
      metrics: this.#metrics,
    };
    const fence = { authority: 'us', epoch: 1, n: ++this.#turns };
    const turn = new Turn(ports, LIMITS, { fence, signal: term.signal, release: async () => undefined });
    const ended = turn.run(stop.signal);
    ended.catch(() => undefined);
    this.#turn = { ended, stop, term };
  }

  async #end(): Promise<void> {
    this.#turn?.stop.abort();
    for (let waited = 0; waited < 20; waited++) await this.clock.advance(1_000);
    await this.#turn?.ended;
  }

  #forge(): PluginSource {
    return {
      schemes: ['github'],
      parse: (ref) => ({ ref, group: ref.spec, selector: ref.spec, subPath: '', pinned: false }),
      resolve: async (wanted) => {
        if (this.#isForgeDown) throw transient('SourceUnavailable', 'the forge is down, says the test');
        return new Map(wanted.map((one) => [one, this.#commit.toString(16).padStart(40, '0')]));
      },
      async *fetch() {},
    };
  }

  #artifact(selector: string, revision: string): Artifact {
    const name = `${selector} at ${revision}`;
    const known = this.#artifacts.get(name) ?? memoryArtifact({ 'SKILL.md': `${name}\n` });
    this.#artifacts.set(name, known);
    return known;
  }

  #add(): void {
    const name = `ws-${this.#named++}`;
    this.#names.push(name);
    this.#declare(name);
  }

  /** One is deleted, and another one made. */
  #replace(): void {
    const [name = ''] = this.#names.splice(Math.floor(this.#random() * this.#names.length), 1);
    this.#backend.remove(workspaceKey('default', name));
    this.#wanted.delete(name);
    this.#gone.push(name);
    this.#add();
  }

  #declare(name: string): void {
    const plugins = PLUGINS.filter(() => this.#random() < 0.8);
    this.#wanted.set(name, plugins.toSorted());
    this.#backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name },
      spec: {
        runtime: 'claude-code',
        target: { directory: { path: pathOf(name) } },
        plugins: plugins.map((plugin) => ({ name: plugin, source: `github://acme/${plugin}#main` })),
        // Who deletes most of a fleet's plugins by dice has to say so.
        policy: { allowEmpty: true },
      },
    });
  }

  #name(): string {
    return this.#names[Math.floor(this.#random() * this.#names.length)] ?? 'ws-0';
  }
}

function pathOf(name: string): string {
  return `/srv/${name}`;
}

const collectGarbage: () => void = (() => {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
})();
