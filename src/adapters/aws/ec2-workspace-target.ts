import type { Activator, ProbeResult, RunOptions, RunResult, WorkspaceTarget } from '../../ports/workspace-target.ts';
import type { Instance } from './instance.ts';

/** Asks AWS once more for the instance; what it said a moment ago will do. */
type LookUp = (signal: AbortSignal) => Promise<Instance>;

/** An SSH host that AWS knows as well. */
export class Ec2WorkspaceTarget implements WorkspaceTarget {
  readonly #host: WorkspaceTarget;
  readonly #lookUp: LookUp;
  readonly activator?: Activator;

  constructor(host: WorkspaceTarget, lookUp: LookUp) {
    this.#host = host;
    this.#lookUp = lookUp;
    if (host.activator !== undefined) this.activator = host.activator;
  }

  get identity(): string {
    return this.#host.identity;
  }

  get description(): string {
    return this.#host.description;
  }

  run(argv: readonly string[], options: RunOptions): Promise<RunResult> {
    return this.#host.run(argv, options);
  }

  /** Moves with another instance, and with one that was started anew. AWS knows of nothing that is on it. */
  async probe(_configDir: string, signal: AbortSignal): Promise<ProbeResult> {
    try {
      const { id, launchedAtMs, state } = await this.#lookUp(signal);
      return { kind: 'token', token: `${id} ${launchedAtMs} ${state}` };
    } catch (cause) {
      return { kind: 'unknown', cause };
    }
  }
}
