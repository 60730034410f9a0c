import { hexOf, sha256, type Digest } from '../../src/domain/digest.ts';
import type { PluginName } from '../../src/domain/name.ts';
import type { Observation, ObservedPlugin } from '../../src/domain/observation.ts';
import { treeDigest } from '../../src/domain/tree.ts';
import type { Artifact } from '../../src/ports/artifacts.ts';
import type { Clock } from '../../src/ports/clock.ts';
import type { HostPlace, PluginHost } from '../../src/ports/plugin-host.ts';
import type { TargetProvider, WorkspaceTarget } from '../../src/ports/workspace-target.ts';

interface Place {
  readonly plugins: Map<PluginName, ObservedPlugin>;
  /** Moves with every change, as the time of a directory does. */
  changes: number;
  startedAtMs: number;
}

/**
 * Targets of directory workspaces, and what is installed on them, in memory: plugins are put there, removed and found
 * drifted, and the runtime is restarted, at no cost and in no time.
 */
export class SimulatedTargets implements TargetProvider, PluginHost {
  readonly kind = 'directory';
  restarts = 0;
  readonly #places = new Map<string, Place>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Somebody takes one plugin away by hand; `false` where none is installed. */
  drift(path: string): boolean {
    const place = this.#place(path);
    const [name] = place.plugins.keys();
    place.changes++;
    return name !== undefined && place.plugins.delete(name);
  }

  /** The target itself is gone, and with it what this remembers. */
  destroy(path: string): void {
    this.#places.delete(path);
  }

  installed(path: string): ReadonlyMap<PluginName, ObservedPlugin> {
    return this.#place(path).plugins;
  }

  addresses(workspace: { readonly target: object }): readonly string[] {
    return [pathOf(workspace.target)];
  }

  lane(): string {
    return 'directory';
  }

  async locate({ target }: { readonly target: object }): Promise<WorkspaceTarget> {
    const path = pathOf(target);
    const place = this.#place(path);
    return {
      identity: path,
      description: `directory ${path}`,
      probe: async () => ({ kind: 'token', token: `${place.changes}` }),
      run: async () => Promise.reject(new Error('nothing runs in a simulation')),
      activator: {
        inspect: async () => ({ startedAtMs: place.startedAtMs, isStarting: false, wouldLose: undefined }),
        now: async () => this.#clock.now(),
        restart: async () => {
          this.restarts++;
          place.startedAtMs = this.#clock.now();
        },
      },
    };
  }

  async close(): Promise<void> {}

  async observe({ target }: HostPlace): Promise<Observation> {
    return this.#look(target.identity);
  }

  async converge({ target }: HostPlace, { transaction, artifacts }: Parameters<PluginHost['converge']>[1]) {
    const place = this.#place(target.identity);
    for (const operation of transaction.operations) {
      place.changes++;
      if (operation.kind === 'remove-tree') place.plugins.delete(operation.plugin);
      if (operation.kind !== 'put-tree') continue;
      const { plugin: name, digest, receipt } = operation;
      place.plugins.set(name, {
        name,
        receipt,
        manifest: {},
        present: true,
        differing: [],
        ...listed(digest, artifacts),
      });
    }
    return { failed: new Map(), kept: [], observation: this.#look(target.identity) };
  }

  #look(path: string): Observation {
    const plugins = [...this.#place(path).plugins.values()];
    return { owner: { uid: 0, gid: 0 }, plugins, odd: [], journalPending: false };
  }

  #place(path: string): Place {
    const known = this.#places.get(path);
    if (known !== undefined) return known;
    const place: Place = { plugins: new Map(), changes: 0, startedAtMs: this.#clock.now() };
    this.#places.set(path, place);
    return place;
  }
}

function listed(
  digest: Digest,
  artifacts: ReadonlyMap<Digest, Artifact>,
): Pick<ObservedPlugin, 'listDigest' | 'filesSha256'> {
  const lists = artifacts.get(digest)?.lists ?? { files: '', executables: '' };
  return { listDigest: treeDigest(lists), filesSha256: hexOf(sha256(lists.files)) };
}

function pathOf(target: object): string {
  return 'directory' in target ? (target.directory as { readonly path: string }).path : '';
}
