import { printable } from '../domain/text.ts';
import type { Paint } from './style.ts';

type Fields = Readonly<Record<string, unknown>>;

const LEVEL_COLORS = { error: 'red', warn: 'yellow' } as const;

/**
 * A line of the JSON log as a person at a command line reads it: `warning: what happened (workspace=default/alice)`.
 * Commands that print results share standard error with the log; the daemon's log stays JSON.
 */
export function formatLogLine(line: string, paint: Paint): string {
  const { level, time: _time, msg, error, ...rest } = JSON.parse(line) as Fields;
  const name = level === 'warn' ? 'warning' : String(level);
  const color = level === 'warn' || level === 'error' ? LEVEL_COLORS[level] : undefined;
  const cause = messageOf(error);
  const fields = Object.entries(rest).map(
    ([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const where = fields.length === 0 ? '' : ` (${fields.join(', ')})`;
  return `${paint(color, `${name}:`)} ${printable(`${String(msg)}${cause === undefined ? '' : `: ${cause}`}${where}`)}\n`;
}

function messageOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('message' in error)) return undefined;
  return String(error.message);
}
