import { DEFAULT_CONTAINER_RULES, isFor, type AllowedEngine, type ContainerRulesOptions } from '../../domain/access.ts';
import { terminal } from '../../domain/errors.ts';
import type { Workspace } from '../../domain/workspace.ts';
import type { Clock } from '../../ports/clock.ts';
import type { Logger } from '../../ports/logger.ts';
import type { Metrics } from '../../ports/metrics.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import type { StoppedTarget, TargetProvider, WorkspaceTarget } from '../../ports/workspace-target.ts';
import { DockerActivator } from './docker-activator.ts';
import { DockerWorkspaceTarget } from './docker-workspace-target.ts';
import { watchEngine } from './engine-events.ts';
import { DockerEngine } from './engine.ts';
import { ContainerRules } from './container-rules.ts';
import { findContainer, findEnded, type Search } from './find-container.ts';

export interface ReachedEngine extends AllowedEngine {
  /** Left out: as the address says. */
  readonly dialer?: StreamDialer | undefined;
}

export interface DockerTargetOptions {
  /** Engines that workspaces may name; `default` is meant where they name none. */
  readonly engines: readonly ReachedEngine[];
  /** What proves that a container is a workspace's. Default {@link DEFAULT_CONTAINER_RULES}. */
  readonly rules?: ContainerRulesOptions;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Where requests to engines are counted. Left out: nowhere. */
  readonly metrics?: Pick<Metrics, 'engineAsked'>;
  /** For one request to an engine. Default 10 s. */
  readonly requestTimeoutMs?: number;
  /** A stream of events that is silent for so long is checked. Default 30 s. */
  readonly inactivityMs?: number;
}

/** Who wants to know what stirs, until `signal` aborts. */
interface Watcher {
  readonly onStir: (address: string) => void;
  readonly onGap: () => void;
  readonly signal: AbortSignal;
  /** Names of engines whose events are read for it. */
  readonly followed: Set<string>;
}

const REQUEST_TIMEOUT_MS = 10_000;
const INACTIVITY_MS = 30_000;
const DEFAULT_ENGINE = 'default';

/** Workspaces that are containers of Docker engines. */
export class DockerTargetProvider implements TargetProvider {
  readonly kind = 'docker';
  readonly #engines: ReadonlyMap<string, DockerEngine>;
  readonly #options: DockerTargetOptions;
  readonly #rules: ContainerRules;
  readonly #closing = new AbortController();
  readonly #watches: Promise<void>[] = [];
  #watcher: Watcher | undefined;

  /** Throws `InvalidSpec` for an address that is none. Connects to nothing. */
  constructor(options: DockerTargetOptions) {
    const { clock, metrics, requestTimeoutMs = REQUEST_TIMEOUT_MS } = options;
    this.#options = options;
    this.#rules = new ContainerRules(options.rules ?? DEFAULT_CONTAINER_RULES);
    this.#engines = new Map(
      options.engines.map(({ name, address, dialer }) => [
        name,
        new DockerEngine({ name, address, dialer, clock, requestTimeoutMs, metrics }),
      ]),
    );
  }

  addresses(workspace: Workspace): readonly string[] {
    const { engine, container = this.#rules.namedByOperator(workspace, engine) } = placeOf(workspace);
    if (container !== undefined) return [nameAddress(engine, container)];
    const ruleName = this.#rules.ruleName(workspace);
    return [
      ...this.#rules.labelValues(workspace).map((value) => labelAddress(engine, value)),
      ...(ruleName === undefined ? [] : [nameAddress(engine, ruleName)]),
    ];
  }

  lane(workspace: Workspace): string {
    return `docker:${placeOf(workspace).engine}`;
  }

  async locate(workspace: Workspace, signal: AbortSignal): Promise<WorkspaceTarget> {
    const { container } = placeOf(workspace);
    const search = this.#search(workspace);
    this.#follow(search.engine);
    return new DockerWorkspaceTarget(search.engine, await findContainer(search, container, signal));
  }

  async locateStopped(workspace: Workspace, signal: AbortSignal): Promise<StoppedTarget | undefined> {
    const { container } = placeOf(workspace);
    const search = this.#search(workspace);
    const { engine } = search;
    const found = await findEnded(search, container, signal);
    if (found === undefined) return undefined;
    const description = `container ${found.name} on engine ${engine.name}`;
    return new DockerActivator(engine, { id: found.id, description }).stopped(signal);
  }

  /** Throws `InvalidSpec`, `TargetNotAllowed` (terminal). */
  #search(workspace: Workspace): Search {
    const { engine: name } = placeOf(workspace);
    const theirs = this.#options.engines.filter((one) => isFor(workspace.key, one));
    const entries = theirs.filter((one) => one.name === name);
    const engine = this.#engines.get(name);
    if (engine === undefined) {
      const known = [...new Set(theirs.map((one) => one.name))].toSorted().join(', ') || 'none';
      throw terminal(
        'InvalidSpec',
        `workspace ${workspace.key} names the engine ${name}, which is not configured (--docker-host ${name}=unix:///…); known: ${known}`,
      );
    }
    if (entries.length === 0) {
      throw terminal(
        'TargetNotAllowed',
        `workspace ${workspace.key} names the engine ${name}, which the operator has not given to its namespace (targets.docker.engines, namespaces)`,
      );
    }
    return { engine, entries, rules: this.#rules, workspace };
  }

  watch(onStir: (address: string) => void, onGap: () => void, signal: AbortSignal): void {
    this.#watcher = { onStir, onGap, signal: AbortSignal.any([signal, this.#closing.signal]), followed: new Set() };
  }

  /** An engine is followed from the first workspace on it: one that nobody uses may well not run, and need not be told of. */
  #follow(engine: DockerEngine): void {
    const { logger, inactivityMs = INACTIVITY_MS } = this.#options;
    const watcher = this.#watcher;
    if (watcher === undefined || watcher.signal.aborted || watcher.followed.has(engine.name)) return;
    watcher.followed.add(engine.name);
    const { onStir, onGap, signal } = watcher;
    const onEvent = ({ name, label }: { readonly name: string; readonly label?: string | undefined }): void => {
      onStir(nameAddress(engine.name, name));
      if (label !== undefined) onStir(labelAddress(engine.name, label));
    };
    this.#watches.push(watchEngine({ engine, logger, inactivityMs, label: this.#rules.label, onEvent, onGap, signal }));
  }

  /** Ends the watches and the idle connections. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#watches);
    for (const engine of this.#engines.values()) engine.close();
  }
}

function placeOf(workspace: Workspace): { readonly engine: string; readonly container: string | undefined } {
  if (!('docker' in workspace.target)) {
    throw terminal('Internal', `workspace ${workspace.key} has no docker target and reached the docker provider`);
  }
  const { engine = DEFAULT_ENGINE, container } = workspace.target.docker;
  return { engine, container };
}

function nameAddress(engine: string, name: string): string {
  return `docker:${engine}:name:${name}`;
}

function labelAddress(engine: string, value: string): string {
  return `docker:${engine}:label:${value}`;
}
