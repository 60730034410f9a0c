import { transient } from '../domain/errors.ts';
import type { ControllerState } from '../ports/controller-state.ts';

export interface DocumentSchema<T> {
  safeParse(value: unknown): { readonly data?: T | undefined };
}

/** What a document says, and the version to write it over; nothing where there is none. */
export interface ReadDocument<T> {
  readonly data: T | undefined;
  readonly version: string | undefined;
}

/**
 * Throws `StoreUnavailable` where it cannot be read: it may say what forbids to go on. `removed`: what comes of it when
 * somebody removes it, for people.
 */
export async function readDocument<T>(
  state: ControllerState,
  key: string,
  schema: DocumentSchema<T>,
  removed: string,
  signal: AbortSignal,
): Promise<ReadDocument<T>> {
  const document = await state.get(key, signal);
  if (document === undefined) return { data: undefined, version: undefined };
  const { data } = schema.safeParse(document.value);
  if (data !== undefined) return { data, version: document.version };
  throw transient(
    'StoreUnavailable',
    `the controller state ${key} cannot be read; remove it (README, What plugset remembers), and ${removed}`,
  );
}

/** Answers the new version. Throws `StoreUnavailable` where somebody was faster: the next pass reads it anew. */
export async function writeDocument(
  state: ControllerState,
  key: string,
  expected: string | undefined,
  value: unknown,
  signal: AbortSignal,
): Promise<string> {
  const version = await state.compareAndSwap(key, expected, value, signal);
  if (version !== undefined) return version;
  throw transient('StoreUnavailable', `the controller state ${key} was written by somebody else; it is read anew`);
}
