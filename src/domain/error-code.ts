/**
 * `ENOENT`, `ECONNREFUSED` and the like, of what the system or a library threw. Codes, and never messages, tell what an
 * error is.
 */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/** The same, for people. */
export function causeOf(error: unknown): string {
  return codeOf(error) ?? 'unknown error';
}
