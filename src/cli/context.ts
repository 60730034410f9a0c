import type { App } from '../app.ts';
import type { Config } from '../config.ts';
import type { Finding } from '../doctor.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Patience } from '../patience.ts';
import type { OpenedStore, StoreRole } from '../stores.ts';
import type { Clock } from '../ports/clock.ts';
import type { Logger } from '../ports/logger.ts';
import type { ParsedSource } from '../ports/plugin-source.ts';

export interface SourceGrammar {
  parse(text: string): ParsedSource;
}

export interface DaemonAnswer {
  readonly status: number;
  readonly body: string;
}

/** One of the two streams that a command writes to. */
export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** A terminal that shows colours, and nobody asked for none (`NO_COLOR`). */
  readonly hasColor: boolean;
  readonly columns: number;
}

/** Everything a command touches besides its arguments, so that a test can run it inside its own process. */
export interface CliContext {
  readonly version: string;
  /** Results only: what it prints can be piped into another program. */
  readonly stdout: Output;
  /** Errors, warnings, progress. */
  readonly stderr: Output;
  readonly stdin: AsyncIterable<Uint8Array>;
  readonly clock: Clock;
  /** Aborts when the person or the system wants the command to end. */
  readonly signal: AbortSignal;
  /** Called as `kubectl plugset`: a cluster is meant. */
  readonly isKubectlPlugin?: boolean;
  /** The namespace that is meant in the cluster of this configuration where nobody names one. */
  homeNamespace(config: Config): Promise<string>;
  openStore(config: Config, logger: Logger, role: StoreRole): Promise<OpenedStore>;
  openApp(config: Config, logger: Logger, role: StoreRole, patience?: Patience): Promise<App>;
  /** The grammar of every scheme, which throws `InvalidSource` of a text that it cannot read. Touches nothing. */
  openGrammar(allowUnpinned: boolean): Promise<SourceGrammar>;
  /** Asks the daemon's own server, if one answers there. */
  askDaemon(listen: Config['listen'], path: string): Promise<DaemonAnswer | undefined>;
  /** Looks at everything that plugset needs; `given` is what was typed. */
  diagnose(given: Readonly<Record<string, unknown>>, workspace: WorkspaceKey | undefined): Promise<readonly Finding[]>;
  createLogger(level: Config['logLevel'], stream: 'stdout' | 'stderr'): Logger;
}

/** 0 as asked · 1 failed, or not as declared · 2 (only `plan`) something would change. */
export type ExitCode = 0 | 1 | 2;

/** How the action of a command tells its exit code. */
export type Ends = (code: ExitCode) => void;

/** What a person asked for cannot be done; the message says why and what to do. */
export class CliError extends Error {
  override readonly name = 'CliError';
}
