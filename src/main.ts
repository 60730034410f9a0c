#!/usr/bin/env node
import { setMaxListeners } from 'node:events';
import { basename } from 'node:path';
import type { WriteStream } from 'node:tty';
import { setFlagsFromString } from 'node:v8';

import { SystemClock } from './adapters/system/clock.ts';
import { PinoLogger } from './adapters/telemetry/pino-logger.ts';
import type { Output } from './cli/context.ts';
import { formatLogLine } from './cli/log-line.ts';
import { runCli } from './cli/program.ts';
import { paintFor } from './cli/style.ts';
import { VERSION } from './version.ts';

/** What a shell shows of a process that a signal ended: 128 and the number of the signal. */
const SIGNAL_CODES = { SIGINT: 130, SIGTERM: 143, SIGPIPE: 141 } as const;
type EndingSignal = keyof typeof SIGNAL_CODES;

const interruption = new AbortController();
let endedBy: EndingSignal | undefined;

function interrupt(signal: EndingSignal): void {
  endedBy = signal;
  interruption.abort(new Error(`interrupted by ${signal}`));
}

/** The result cannot be handed over, whatever the command concludes. */
function fail(message: string): void {
  process.exitCode = 1;
  process.stderr.write(`error: ${message}\n`);
  interruption.abort(new Error(message));
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The first one asks; who sends a second one does not want to wait.
    if (interruption.signal.aborted) process.exit(SIGNAL_CODES[signal]);
    interrupt(signal);
  });
}

/** Node ignores SIGPIPE: the reader that went away (`| head`) shows as an error of the stream, as does a full disk. */
function outputTo(stream: WriteStream): Output {
  let isOpen = true;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (!isOpen) return;
    isOpen = false;
    if (error.code === 'EPIPE') interrupt('SIGPIPE');
    else fail(`cannot write the output (${error.code ?? error.message})`);
  });
  return {
    write: (text) => void (isOpen && stream.write(text)),
    isTerminal: stream.isTTY,
    // Knows about NO_COLOR, FORCE_COLOR and dumb terminals.
    hasColor: stream.isTTY && stream.hasColors(),
    columns: stream.isTTY ? stream.columns : 120,
  };
}

// All plugins of a workspace wait for the signal of one pass; Node takes more than ten listeners for a leak, and says so.
setMaxListeners(0);
// Where memory is plentiful V8 lets a heap grow to four times what is alive in it, which a daemon then keeps for good.
setFlagsFromString('--heap-growing-percent=30');

const clock = new SystemClock();
const stderr = outputTo(process.stderr);
const people = { write: (line: string): void => stderr.write(formatLogLine(line, paintFor(stderr))) };

const code = await runCli(process.argv.slice(2), {
  version: VERSION,
  isKubectlPlugin: basename(process.argv[1] ?? '') === 'kubectl-plugset',
  stdout: outputTo(process.stdout),
  stderr,
  get stdin() {
    return process.stdin;
  },
  clock,
  signal: interruption.signal,
  homeNamespace: async (config) => {
    const { Kube } = await import('./kube.ts');
    return new Kube({ config: config.kubernetes, clock }).namespace(interruption.signal);
  },
  // Loaded when a command needs them: engines and databases take half a second that help has no use for.
  openStore: async (config, logger, role) => (await import('./stores.ts')).openStore(config, { logger, clock, role }),
  openApp: async (config, logger, role, patience) =>
    (await import('./app.ts')).openApp(config, logger, { role, patience }),
  openGrammar: async (allowUnpinned) => (await import('./sources.ts')).createSourceGrammar(allowUnpinned, clock),
  askDaemon: async (listen, path) =>
    (await import('./adapters/telemetry/http-client.ts')).askDaemon(listen, path, clock, interruption.signal),
  diagnose: async (given, workspace) =>
    (await import('./doctor.ts')).diagnose({
      given,
      workspace,
      clock,
      logger: PinoLogger.create({ level: 'error', destination: people }),
      signal: interruption.signal,
    }),
  createLogger: (level, stream) => PinoLogger.create(stream === 'stdout' ? { level } : { level, destination: people }),
});
process.exitCode ??= code !== 0 && endedBy !== undefined ? SIGNAL_CODES[endedBy] : code;
