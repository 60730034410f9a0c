import type Docker from 'dockerode';

import { codeOf } from '../../domain/error-code.ts';
import { aborted, ReconcileError, terminal, transient } from '../../domain/errors.ts';
import type { Clock } from '../../ports/clock.ts';
import { Deadline } from '../../ports/deadline.ts';
import type { EngineOutcome, EngineRequest, Metrics } from '../../ports/metrics.ts';
import type { StreamDialer } from '../../ports/stream-dialer.ts';
import { DialledAgent, EngineAgent, NotConnected } from './engine-agents.ts';

export interface EngineOptions {
  readonly name: string;
  /** `unix:///var/run/docker.sock` or `tcp://host:port`; with a dialer whatever people call it by. */
  readonly address: string;
  /** How it is reached. Left out: as the address says. */
  readonly dialer?: StreamDialer | undefined;
  readonly clock: Clock;
  readonly requestTimeoutMs: number;
  readonly metrics?: Pick<Metrics, 'engineAsked'> | undefined;
}

/** What a request does with the connection it is made on. `signal` aborts when the answer is no longer waited for. */
export type Ask<T> = (docker: Docker, signal: AbortSignal) => Promise<T>;

/** One Docker engine: every request to it has a deadline, and every failure a class. */
export class DockerEngine {
  readonly name: string;
  readonly clock: Clock;
  readonly #address: string;
  readonly #requestTimeoutMs: number;
  readonly #metrics: EngineOptions['metrics'];
  readonly #agent: EngineAgent;
  readonly #connection: Docker.DockerOptions;
  #docker: Docker | undefined;

  constructor(options: EngineOptions) {
    this.name = options.name;
    this.clock = options.clock;
    this.#address = options.address;
    this.#requestTimeoutMs = options.requestTimeoutMs;
    this.#metrics = options.metrics;
    this.#agent = options.dialer === undefined ? new EngineAgent() : new DialledAgent(options.dialer, options.clock);
    // Throws InvalidSpec now rather than in the first pass.
    this.#connection = options.dialer === undefined ? connectionTo(options.address) : DIALLED;
  }

  /** Asks, and throws what went wrong as `aborted`, `Unreachable` or `AuthenticationFailed`, in terms of `what`. */
  async call<T>(request: EngineRequest, what: string, signal: AbortSignal, ask: Ask<T>): Promise<T> {
    try {
      return await this.ask(request, signal, ask);
    } catch (error) {
      throw this.classify(what, signal, error);
    }
  }

  /** Like {@link call}; `undefined` when the engine answers that there is no such thing. */
  async find<T>(request: EngineRequest, what: string, signal: AbortSignal, ask: Ask<T>): Promise<T | undefined> {
    try {
      return await this.ask(request, signal, ask);
    } catch (error) {
      if (statusOf(error) === 404) return undefined;
      throw this.classify(what, signal, error);
    }
  }

  /** Asks with a deadline and throws what comes, unclassified. `request`: what is asked, for the metrics. */
  async ask<T>(
    request: EngineRequest,
    signal: AbortSignal,
    ask: Ask<T>,
    timeoutMs = this.#requestTimeoutMs,
  ): Promise<T> {
    const docker = await this.#connect();
    const deadline = new Deadline(this.clock, timeoutMs, signal);
    const startedMs = this.clock.monotonic();
    let outcome: EngineOutcome = 'ok';
    try {
      // docker-modem never settles when a connection ends in the middle of an answer, hence the race.
      return await deadline.race(ask(docker, deadline.signal));
    } catch (error) {
      outcome = signal.aborted ? 'called_off' : outcomeOf(statusOf(error));
      throw error;
    } finally {
      deadline.clear();
      this.#metrics?.engineAsked(this.name, request, outcome, (this.clock.monotonic() - startedMs) / 1000);
    }
  }

  classify(what: string, signal: AbortSignal, error: unknown): ReconcileError {
    if (signal.aborted) return aborted(`engine ${this.name}: ${what} was called off`, error);
    const { cause } = error instanceof NotConnected ? error : { cause: error };
    // The way to it knows better what is wrong with it.
    if (cause instanceof ReconcileError && cause.class !== 'aborted') return cause;
    const status = statusOf(error);
    if (status === 401 || status === 403 || codeOf(error) === 'EACCES') {
      return terminal('AuthenticationFailed', `engine ${this.name} at ${this.#address} does not let plugset in`, error);
    }
    const how = status === undefined ? (codeOf(error) ?? 'no answer in time') : `HTTP ${status}`;
    return transient(
      'Unreachable',
      `engine ${this.name} at ${this.#address} could not be asked: ${what} (${how})`,
      error,
    );
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Loaded late: dockerode costs 70 MB and 160 ms, which a command that talks to no engine should not pay. */
  async #connect(): Promise<Docker> {
    if (this.#docker === undefined) {
      const { default: Dockerode } = await import('dockerode');
      this.#docker ??= new Dockerode({ ...this.#connection, agent: this.#agent } as Docker.DockerOptions);
    }
    return this.#docker;
  }
}

function outcomeOf(status: number | undefined): EngineOutcome {
  if (status === undefined) return 'unanswered';
  if (status === 404) return 'not_found';
  return status < 500 ? 'refused' : 'error';
}

/** HTTP status that the engine refused with; `undefined` when it did not answer. */
export function statusOf(error: unknown): number | undefined {
  const status = (error as { statusCode?: unknown }).statusCode;
  return typeof status === 'number' ? status : undefined;
}

/** Names every option, since docker-modem fills those that are absent from DOCKER_HOST and its kin. */
const NONE = {
  socketPath: undefined,
  host: undefined,
  port: undefined,
  ca: undefined,
  cert: undefined,
  key: undefined,
  timeout: undefined,
};

/** Nobody looks it up. */
const DIALLED: Docker.DockerOptions = { ...NONE, protocol: 'http', host: 'http://docker', port: 80 };

function connectionTo(address: string): Docker.DockerOptions {
  const unix = /^unix:\/\/(\/.+)$/.exec(address);
  if (unix?.[1] !== undefined) return { ...NONE, protocol: 'http', socketPath: unix[1] };
  const tcp = /^tcp:\/\/(\[[0-9a-f:]+\]|[^/:]+):(\d+)\/?$/i.exec(address);
  if (tcp?.[1] === undefined) {
    throw terminal('InvalidSpec', `engine address ${address} is neither unix:///path/to/socket nor tcp://host:port`);
  }
  return { ...NONE, protocol: 'http', host: `http://${tcp[1]}`, port: Number(tcp[2]) };
}
