/** A message over the API server's limit fails the whole status write, for ever; ours stays far below it. */
const LIMIT = 1024;

/**
 * Text that comes from a target, a source or a tenant, made fit for a terminal: one line, no escape sequence, nothing
 * that turns the reading direction round.
 */
export function printable(text: string): string {
  return text.replaceAll(/\s*[\r\n]+\s*/g, ' ').replaceAll(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu, '?');
}

/** The same, as long as a status may hold it: what is stored there is printed by more than our own commands. */
export function statusText(text: string): string {
  const line = printable(text);
  return line.length <= LIMIT ? line : `${line.slice(0, LIMIT - 1)}…`;
}

/** `1 plugin`, `2 plugins`: for nouns that take an s. */
export function countOf(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
