import { LocalSecrets } from '../../src/adapters/system/local-secrets.ts';
import { PrometheusMetrics } from '../../src/adapters/telemetry/prometheus-metrics.ts';
import { DEFAULT_ACTIVATION } from '../../src/domain/activation.ts';
import { DEFAULT_GUARDS } from '../../src/domain/gate.ts';
import { classifyError, transient, type ReconcileError } from '../../src/domain/errors.ts';
import type { Observation } from '../../src/domain/observation.ts';
import { BUILT_IN_PROFILES } from '../../src/domain/profile.ts';
import { API_VERSION, type WorkspaceManifest } from '../../src/domain/workspace.ts';
import type { Term } from '../../src/ports/leadership.ts';
import type { PluginSource } from '../../src/ports/plugin-source.ts';
import type { TargetProvider, WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { SourceRegistry } from '../../src/reconcile/source-registry.ts';
import { Turn } from '../../src/turn.ts';
import { FakeClock } from './fake-clock.ts';
import { memoryArtifact } from './memory-artifact.ts';
import { MemoryControllerState } from './memory-state.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from './memory-store.ts';
import { RecordingLogger, type LogLine } from './recording-logger.ts';

const SECOND = 1_000;
const LIMITS = {
  guards: DEFAULT_GUARDS,
  activation: DEFAULT_ACTIVATION,
  workers: 16,
  laneLimit: 6,
  probeIntervalMs: 30 * SECOND,
  deepIntervalMs: 600 * SECOND,
  resolveIntervalMs: 60 * SECOND,
  firstPassPerSecond: 50,
  graceMs: SECOND,
};
const NOTHING: Observation = { owner: { uid: 0, gid: 0 }, plugins: [], odd: [], journalPending: false };

export const COMMIT = 'c0ffee'.repeat(6) + 'c0ff';

/** One leader with its real queue, workers, passes and metrics on a clock that a test moves; targets are empty. */
export class SimulatedFleet {
  readonly clock = new FakeClock();
  readonly backend = new MemoryStoreBackend(this.clock);
  readonly logger = new RecordingLogger();
  readonly metrics = new PrometheusMetrics({ version: '0', perWorkspace: true });
  /** Why the target of a workspace cannot be had, by the name of the workspace. */
  readonly problems = new Map<string, () => ReconcileError>();
  /** Whether the forge says of every source that it names a commit and is never to be asked again. */
  takesAllForPinned = false;
  /** Why the forge does not answer. */
  forgeProblem: ReconcileError | undefined;
  readonly #stop = new AbortController();
  #ended: Promise<void> | undefined;

  declare(name: string, spec: Partial<WorkspaceManifest['spec']> = {}, namespace = 'default'): void {
    const target = { directory: { path: `/srv/${namespace}/${name}` } };
    this.backend.declare({
      apiVersion: API_VERSION,
      kind: 'Workspace',
      metadata: { name, namespace },
      spec: { runtime: 'claude-code', target, plugins: [], ...spec },
    });
  }

  /** Takes the lead and begins to work, as a daemon does that has just won the lease. */
  lead(): void {
    this.metrics.leading(true);
    const term: Term = {
      fence: { authority: 'us', epoch: 1, n: 1 },
      signal: new AbortController().signal,
      release: async () => undefined,
    };
    const { clock, logger, metrics } = this;
    const registry = new SourceRegistry([this.#forge()]);
    const ports = {
      store: new MemoryWorkspaceStore(this.backend),
      state: new MemoryControllerState(),
      providers: [this.#provider()],
      host: {
        observe: async () => NOTHING,
        converge: async () => Promise.reject(transient('InstallFailed', 'nothing can be installed in a simulation')),
      },
      registry,
      secrets: new LocalSecrets([], {}),
      artifacts: { get: async () => memoryArtifact({ 'SKILL.md': 'a skill\n' }) },
      profiles: BUILT_IN_PROFILES,
      clock,
      logger,
      metrics,
    };
    this.#ended = new Turn(ports, LIMITS, term).run(this.#stop.signal);
    // Told by `stop`; here it would end the process before the test can look.
    this.#ended.catch(() => undefined);
  }

  /** Rejects with what ended the turn, if that was not this. */
  async stop(): Promise<void> {
    this.#stop.abort();
    for (let waited = 0; waited < 60 && this.#ended !== undefined; waited++) await this.clock.advance(SECOND);
    await this.#ended;
    this.metrics.leading(false);
  }

  /** Lines that are there unless somebody asks for more. */
  told(): readonly LogLine[] {
    return this.logger.lines.filter(({ level }) => level !== 'debug');
  }

  /** The samples of a metric now: value by labels, as they stand in the exposition. */
  async samples(name: string): Promise<Readonly<Record<string, number>>> {
    const { body } = await this.metrics.expose();
    const lines = body.matchAll(new RegExp(`^${name}(?:\\{(.*)\\})? (.+)$`, 'gm'));
    return Object.fromEntries([...lines].map(([, labels = '', value]) => [labels, Number(value)]));
  }

  #forge(): PluginSource {
    return {
      schemes: ['github', 'git+https'],
      parse: (ref) => {
        const [repository = '', selector = ''] = ref.spec.split('#');
        const pinned = this.takesAllForPinned || /^[0-9a-f]{40}$/.test(selector);
        return { ref, group: `${ref.scheme} ${repository}`, selector, subPath: '', pinned };
      },
      resolve: async (wanted) => {
        if (this.forgeProblem !== undefined) throw this.forgeProblem;
        return new Map(wanted.map((one) => [one, COMMIT]));
      },
      async *fetch() {},
    };
  }

  #provider(): TargetProvider {
    const pathOf = (target: object): string =>
      'directory' in target ? (target.directory as { path: string }).path : '';
    return {
      kind: 'directory',
      addresses: ({ target }) => [pathOf(target)],
      lane: () => 'directory',
      locate: async ({ key, target }): Promise<WorkspaceTarget> => {
        const problem = this.problems.get(key.split('/')[1] ?? '');
        if (problem !== undefined) throw classifyError(problem());
        const path = pathOf(target);
        return {
          identity: path,
          description: `directory ${path}`,
          probe: async () => ({ kind: 'token', token: 'unmoved' }),
          run: async () => Promise.reject(new Error('nothing runs in a simulation')),
        };
      },
      close: async () => undefined,
    };
  }
}
