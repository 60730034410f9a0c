/** Values only; no secret may be handed over, and the adapter scrubs what looks like one all the same. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log. `fields.error` may be any thrown value: the adapter prints name, message, reason, cause and stack. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to every line. */
  with(fields: LogFields): Logger;
}
