import type { Digest } from '../domain/digest.ts';
import type { PluginName, WorkspaceKey } from '../domain/name.ts';
import type { Observation } from '../domain/observation.ts';
import { isManaged } from '../domain/plan.ts';
import type { Clock } from '../ports/clock.ts';
import type { Metrics } from '../ports/metrics.ts';
import type { HostPlace, LookDetail, PluginHost } from '../ports/plugin-host.ts';
import type { ProbeResult } from '../ports/workspace-target.ts';
import type { Pass } from './pass.ts';
import { SharedStrings } from './shared-strings.ts';

export interface LooksOptions {
  readonly host: PluginHost;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly deepIntervalMs: number;
}

/** What the last deep look found, and under which token. */
interface LastLook {
  readonly identity: string;
  /** Taken before the look, so that a change between the two shows as a moved probe. */
  readonly token: string;
  /** What unmanaged directories were compared with. */
  readonly trees: ReadonlyMap<PluginName, Digest>;
  readonly observation: Observation;
  /** Monotonic time after which a pass looks again even if the probe did not move. */
  readonly deepDueAtMs: number;
}

/**
 * The two depths of looking. The cheap probe decides whether the last deep look still stands; anything but an equal token
 * means to look again. What is remembered lives in this process only, and losing it costs one look.
 */
export class Looks {
  readonly #options: LooksOptions;
  readonly #last = new Map<WorkspaceKey, LastLook>();
  readonly #strings = new SharedStrings();

  constructor(options: LooksOptions) {
    this.#options = options;
  }

  /** Counts what is no token and might be one: every pass looks deep then, and nothing else shows it. */
  async probe(pass: Pass, place: HostPlace): Promise<ProbeResult> {
    const probe = await place.target.probe(place.configDir, pass.signal);
    pass.signal.throwIfAborted();
    if (probe.kind === 'blank' || probe.kind === 'unknown') {
      this.#options.metrics.looked('probe', 'unknown');
      const error = probe.kind === 'unknown' ? probe.cause : undefined;
      pass.logger.debug('a probe gave no token', { kind: probe.kind, error });
    }
    return probe;
  }

  /**
   * The last look, if it still stands: probe unmoved, nobody asked for another, and the deep clock has time. It serves an
   * edited declaration too, which saves a run: what it cannot know (edits inside a tree, which move no probe) the
   * transaction checks on the target before it changes anything, and the look that ends it shows the rest. Whether the world
   * is still the one that somebody approved a plan for, only a look can tell.
   */
  standing(pass: Pass, place: HostPlace, probe: ProbeResult): Observation | undefined {
    const last = this.#last.get(pass.key);
    const stands =
      last !== undefined &&
      pass.request === undefined &&
      pass.approval === undefined &&
      last.identity === place.target.identity &&
      probe.kind === 'token' &&
      last.token === probe.token &&
      answers(last, pass) &&
      this.#options.clock.monotonic() < last.deepDueAtMs;
    if (!stands) {
      this.forget(pass.key);
      return undefined;
    }
    this.#options.metrics.looked('probe', 'unmoved');
    return last.observation;
  }

  /** A deep look: every listed file is hashed on the target. `detail`: as of {@link PluginHost.observe}. */
  async look(pass: Pass, place: HostPlace, detail?: LookDetail): Promise<Observation> {
    const candidates = new Map(
      pass.desired.plugins.flatMap((plugin) =>
        plugin.kind === 'resolved' ? [[plugin.name, plugin.lists] as const] : [],
      ),
    );
    try {
      const observation = await this.#options.host.observe(place, candidates, pass.signal, detail);
      this.#options.metrics.looked('deep', 'looked');
      return observation;
    } catch (error) {
      this.#options.metrics.looked('deep', 'unknown');
      throw error;
    }
  }

  /** The look that a change may follow, with all that it would have to know as far as that can be foreseen. */
  lookForChange(pass: Pass, place: HostPlace): Promise<Observation> {
    return this.look(pass, place, foreseenDetail(pass, place));
  }

  /** Keeps a look that left nothing to do. Not one that ended a change: a later touch could hide behind our own. */
  remember(pass: Pass, place: HostPlace, probe: ProbeResult, observation: Observation): void {
    if (probe.kind !== 'token') return;
    const { clock, deepIntervalMs } = this.#options;
    this.#last.set(pass.key, {
      identity: place.target.identity,
      token: probe.token,
      trees: treesOf(pass),
      observation: this.#strings.copy({ ...observation, loader: undefined }),
      deepDueAtMs: clock.monotonic() + deepIntervalMs * (0.9 + clock.random() * 0.2),
    });
  }

  /** When a pass looks at every file again though the probe did not move; `undefined`: the next pass does. */
  deepInMs(key: WorkspaceKey): number | undefined {
    const last = this.#last.get(key);
    return last === undefined ? undefined : Math.max(0, last.deepDueAtMs - this.#options.clock.monotonic());
  }

  /** The next pass looks for itself. */
  forget(key: WorkspaceKey): void {
    this.#last.delete(key);
  }
}

/** Declared trees by name; an unmanaged directory was compared with the one of its name, and with no other. */
function treesOf(pass: Pass): ReadonlyMap<PluginName, Digest> {
  return new Map(
    pass.desired.plugins.flatMap((plugin) =>
      plugin.kind === 'resolved' ? [[plugin.name, plugin.digest] as const] : [],
    ),
  );
}

/** Whether a look answers everything that a plan for these wishes asks. Only adoption depends on what was wanted. */
function answers({ observation, trees }: LastLook, pass: Pass): boolean {
  const wanted = treesOf(pass);
  return observation.plugins.every((found) => {
    const digest = wanted.get(found.name);
    return !found.present || isManaged(found) || digest === undefined || trees.get(found.name) === digest;
  });
}

/** Whoever is going to change trees where a loader is has to know what that made of them: asked in the same run. */
function foreseenDetail({ desired, previous }: Pass, { profile }: HostPlace): 'loader' | undefined {
  if (profile.memoryFile === undefined) return undefined;
  const wanted = new Map(
    desired.plugins.map((plugin) => [plugin.name, plugin.kind === 'resolved' ? plugin.digest : '']),
  );
  const isOther = ([name, digest]: readonly [string, Digest]): boolean => {
    const other = wanted.get(name as PluginName);
    return other === undefined || (other !== '' && other !== digest);
  };
  return Object.entries(previous.converged).some(isOther) ? 'loader' : undefined;
}
