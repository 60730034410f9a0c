import type { PrometheusMetrics } from './adapters/telemetry/prometheus-metrics.ts';
import type { TelemetryServer } from './adapters/telemetry/http-server.ts';
import { ConfigError, type Config } from './config.ts';
import { parseWorkspaceKey } from './domain/name.ts';
import type { Clock } from './ports/clock.ts';
import type { Logger } from './ports/logger.ts';
import type { Turn } from './turn.ts';
import { VERSION } from './version.ts';

/** Who answers for a process that leads. */
export type Leader = Pick<Turn, 'problem' | 'unready' | 'wakeUpOf'>;

/**
 * What a process tells of itself: its metrics, and a server for them and for health. It can listen before there is a store:
 * whoever starts it must not take a wait for a hang.
 */
export class Telemetry {
  readonly metrics: PrometheusMetrics;
  /** While this process leads. */
  leader: Leader | undefined;
  /** Why it is of no use though it does not lead; a standby has no such reason: it is of use the moment the leader goes. */
  obstacle: string | undefined;
  /** Why this process should be started again, as far as its store goes; also of one that does not lead. */
  storeProblem: () => string | undefined = () => undefined;
  /** The same as far as its ways to targets go. */
  targetProblem: () => string | undefined = () => undefined;
  /** What of the store cannot be used while the rest of it can. */
  storeNotes: () => readonly string[] = () => [];
  readonly #server: TelemetryServer;
  #listening: Promise<string> | undefined;

  private constructor(metrics: PrometheusMetrics, makeServer: (telemetry: Telemetry) => TelemetryServer) {
    this.metrics = metrics;
    this.#server = makeServer(this);
  }

  static async create(
    { listen, workspaceMetrics }: Pick<Config, 'listen' | 'workspaceMetrics'>,
    clock: Clock,
    logger: Logger,
  ): Promise<Telemetry> {
    const { PrometheusMetrics } = await import('./adapters/telemetry/prometheus-metrics.ts');
    const { TelemetryServer } = await import('./adapters/telemetry/http-server.ts');
    const metrics = new PrometheusMetrics({ version: VERSION, perWorkspace: workspaceMetrics });
    return new Telemetry(
      metrics,
      (telemetry) =>
        new TelemetryServer({
          ...listen,
          metrics: () => metrics.expose(),
          liveness: {
            loops: () => telemetry.leader?.problem(),
            store: () => telemetry.storeProblem(),
            targets: () => telemetry.targetProblem(),
          },
          readiness: { loops: () => telemetry.leader?.problem(), store: () => telemetry.#unready() },
          notes: () => telemetry.storeNotes(),
          wakeUp: (workspace) => {
            const key = parseWorkspaceKey(workspace);
            return key === undefined ? undefined : telemetry.leader?.wakeUpOf(key);
          },
          clock,
          logger,
        }),
    );
  }

  /** Resolves with the URL once requests are answered; once it listens, it listens. Throws {@link ConfigError}. */
  listen(): Promise<string> {
    return (this.#listening ??= this.#listen());
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#listening?.catch(() => undefined);
    await this.#server.close();
  }

  async #listen(): Promise<string> {
    try {
      const { host, port } = await this.#server.start();
      return `http://${host}:${port}`;
    } catch (error) {
      const advice = 'if another plugset runs here, give this one --listen HOST:PORT';
      throw new ConfigError(`${(error as Error).message}; ${advice}`, { cause: error });
    }
  }

  #unready(): string | undefined {
    return this.leader === undefined ? this.obstacle : this.leader.unready();
  }
}
