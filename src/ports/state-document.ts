import { terminal } from '../domain/errors.ts';
import { isName } from '../domain/name.ts';

/*
 * The limits of {@link ControllerState}, the same for every adapter: what one stores, all can. Beyond them is a fault of
 * whoever asks: `Internal` (terminal).
 */

const MAX_PARTS = 4;
const MAX_BYTES = 256 * 1024;

/** The names that a key is made of, outermost first. */
export function parseStateKey(key: string): readonly string[] {
  const parts = key.split('/');
  if (parts.length <= MAX_PARTS && parts.every(isName)) return parts;
  throw terminal('Internal', `${JSON.stringify(key)} is no key for a state document: 1 to 4 names joined by slashes`);
}

/** The document as JSON. */
export function encodeStateDocument(key: string, value: unknown): string {
  // undefined has no JSON at all, and a function has none either.
  const text = JSON.stringify(value) as string | undefined;
  if (text !== undefined && Buffer.byteLength(text) <= MAX_BYTES) return text;
  throw terminal('Internal', `the state document ${key} is no JSON or larger than ${MAX_BYTES / 1024} KiB`);
}
