import { Readable } from 'node:stream';

import type { CliContext, ExitCode, Output } from '../../src/cli/context.ts';
import { runCli } from '../../src/cli/program.ts';
import type { Logger } from '../../src/ports/logger.ts';
import { createSourceGrammar } from '../../src/sources.ts';
import { FakeClock } from './fake-clock.ts';

export interface CliRun {
  readonly code: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command that has not ended yet. */
export interface RunningCli {
  readonly finished: Promise<CliRun>;
  /** Printed so far. */
  stdout(): string;
  stderr(): string;
  /** What Ctrl-C does. */
  interrupt(): void;
}

export interface CliOptions extends Partial<
  Pick<
    CliContext,
    'clock' | 'homeNamespace' | 'isKubectlPlugin' | 'openStore' | 'openApp' | 'askDaemon' | 'diagnose' | 'createLogger'
  >
> {
  readonly stdin?: string;
  /** Both outputs are terminals that show colours. */
  readonly isTerminal?: boolean;
}

const silent: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silent,
};

/** Starts a command line in this process; what it would open is what the test hands over. */
export function startCli(argv: readonly string[], options: CliOptions = {}): RunningCli {
  const isTerminal = options.isTerminal ?? false;
  const stdout = new Capture(isTerminal);
  const stderr = new Capture(isTerminal);
  const interruption = new AbortController();
  const finished = runCli(argv, {
    version: '9.9.9',
    stdout,
    stderr,
    stdin: Readable.from([Buffer.from(options.stdin ?? '')]),
    clock: options.clock ?? new FakeClock(),
    signal: interruption.signal,
    ...(options.isKubectlPlugin === true ? { isKubectlPlugin: true } : {}),
    homeNamespace: options.homeNamespace ?? (() => Promise.reject(new Error('this test has no cluster'))),
    openStore: options.openStore ?? (() => Promise.reject(new Error('this test opens no store'))),
    openApp: options.openApp ?? (() => Promise.reject(new Error('this test opens no app'))),
    openGrammar: async (allowUnpinned) => createSourceGrammar(allowUnpinned, new FakeClock()),
    askDaemon: options.askDaemon ?? (async () => undefined),
    diagnose: options.diagnose ?? (() => Promise.reject(new Error('this test looks at nothing'))),
    createLogger: options.createLogger ?? (() => silent),
  }).then((code) => ({ code, stdout: stdout.text, stderr: stderr.text }));
  return {
    finished,
    stdout: () => stdout.text,
    stderr: () => stderr.text,
    interrupt: () => interruption.abort(new Error('interrupted by the test')),
  };
}

export function runInProcess(argv: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  return startCli(argv, options).finished;
}

class Capture implements Output {
  readonly isTerminal: boolean;
  readonly hasColor: boolean;
  readonly columns = 120;
  text = '';

  constructor(isTerminal: boolean) {
    this.isTerminal = isTerminal;
    this.hasColor = isTerminal;
  }

  write(text: string): void {
    this.text += text;
  }
}
