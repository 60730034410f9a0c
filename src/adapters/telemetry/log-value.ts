import { isSecretName, REDACTED } from '../../domain/secrets.ts';
import { redactText } from './redaction.ts';

const DEPTH_LIMIT = 10;
const ITEM_LIMIT = 200;

/**
 * Any value as plain data for JSON, without secrets: errors with their causes, maps, sets, bytes and cycles included.
 * A getter that throws makes it throw.
 */
export function toLogValue(value: unknown): unknown {
  return convert(value, []);
}

/** `ancestors`: the objects that this one lies in, for cycles and depth. */
function convert(value: unknown, ancestors: readonly object[]): unknown {
  switch (typeof value) {
    case 'string':
      return redactText(value);
    case 'bigint':
      return value.toString();
    case 'function':
    case 'symbol':
      return `[${typeof value}]`;
    case 'object':
      return value === null ? null : convertObject(value, ancestors);
    default:
      return value;
  }
}

function convertObject(value: object, ancestors: readonly object[]): unknown {
  if (ancestors.includes(value)) return '[circular]';
  if (ancestors.length >= DEPTH_LIMIT) return '[too deep]';
  const inside = [...ancestors, value];
  if (value instanceof Error) return convertError(value, inside);
  if (value instanceof Uint8Array) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? '[invalid date]' : value.toISOString();
  if (value instanceof URL) return redactText(value.href);
  if (Array.isArray(value)) return convertItems(value, inside);
  if (value instanceof Set) return convertItems([...value], inside);
  if (value instanceof Map)
    return convertEntries(
      [...value].map(([key, item]) => [String(key), item]),
      inside,
    );
  return convertEntries(Object.entries(value), inside);
}

function convertItems(items: readonly unknown[], ancestors: readonly object[]): unknown[] {
  const converted = items.slice(0, ITEM_LIMIT).map((item) => convert(item, ancestors));
  if (items.length > ITEM_LIMIT) converted.push(`… ${items.length - ITEM_LIMIT} more`);
  return converted;
}

function convertEntries(entries: readonly (readonly [string, unknown])[], ancestors: readonly object[]): object {
  const converted = entries.slice(0, ITEM_LIMIT).map(([key, item]) => {
    const isSecret = isSecretName(key) && item !== undefined && item !== null && typeof item !== 'boolean';
    return [redactText(key), isSecret ? REDACTED : convert(item, ancestors)];
  });
  if (entries.length > ITEM_LIMIT) converted.push(['…', `${entries.length - ITEM_LIMIT} more`]);
  return Object.fromEntries(converted);
}

/** Errors that were foreseen: what happened stands in their message, and where in plugset it was noticed helps nobody. */
const FORESEEN: ReadonlySet<string> = new Set(['ReconcileError', 'ConfigError']);

/** A fault is one as well, for the queue; there the stack is all that helps. */
function isForeseen(error: object): boolean {
  return error instanceof Error && FORESEEN.has(error.name) && !('reason' in error && error.reason === 'Internal');
}

/**
 * Only the fields that are known to be harmless. The others of an error (`detail` of a database error, `config` of an
 * HTTP client) quote rows, headers and bodies.
 */
function convertError(error: Error, ancestors: readonly object[]): object {
  const { name, message, stack, cause } = error;
  const fields: Record<string, unknown> = { name, message };
  for (const key of ['class', 'reason', 'code'] as const) {
    if (key in error) fields[key] = (error as Partial<Record<typeof key, unknown>>)[key];
  }
  if (stack !== undefined && !ancestors.some(isForeseen)) fields['stack'] = stack;
  if (cause !== undefined) fields['cause'] = cause;
  if (error instanceof AggregateError) fields['errors'] = error.errors;
  return Object.fromEntries(Object.entries(fields).map(([key, field]) => [key, convert(field, ancestors)]));
}
