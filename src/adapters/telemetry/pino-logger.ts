import pino, { type DestinationStream, type Logger as Pino } from 'pino';

import type { LogFields, Logger } from '../../ports/logger.ts';
import { toLogValue } from './log-value.ts';
import { redactText } from './redaction.ts';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface PinoLoggerOptions {
  /** Lines below it are dropped. */
  readonly level: LogLevel;
  /** Where lines go. Default: standard output, written synchronously, since the last lines before a crash matter most. */
  readonly destination?: DestinationStream;
}

/** One JSON object a line: `level`, `time` (ISO), the fields, `msg`. */
export class PinoLogger implements Logger {
  readonly #pino: Pino;
  /** Already plain and without secrets. */
  readonly #bound: LogFields;

  private constructor(instance: Pino, bound: LogFields) {
    this.#pino = instance;
    this.#bound = bound;
  }

  static create(options: PinoLoggerOptions): PinoLogger {
    const instance = pino(
      {
        level: options.level,
        base: null,
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
      },
      options.destination ?? pino.destination({ fd: 1, sync: true }),
    );
    return new PinoLogger(instance, {});
  }

  debug(message: string, fields?: LogFields): void {
    this.#write('debug', message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#write('info', message, fields);
  }

  warn(message: string, fields?: LogFields): void {
    this.#write('warn', message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#write('error', message, fields);
  }

  // Not a child of pino: a field that is bound and given again would be in the line twice.
  with(fields: LogFields): Logger {
    return new PinoLogger(this.#pino, { ...this.#bound, ...plain(fields) });
  }

  #write(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (!this.#pino.isLevelEnabled(level)) return;
    this.#pino[level]({ ...this.#bound, ...plain(fields) }, redactText(message));
  }
}

/** Logging must never be what fails. */
function plain(fields: LogFields): LogFields {
  try {
    return toLogValue(fields) as LogFields;
  } catch {
    return { unprintable: Object.keys(fields) };
  }
}
