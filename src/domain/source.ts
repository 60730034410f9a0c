import { isName, NAME_PATTERN } from './name.ts';
import { REDACTED, redactSecrets } from './secrets.ts';

/** `scheme://spec` taken apart; what the spec means is the business of the scheme's source. */
export interface SourceRef {
  readonly scheme: string;
  readonly spec: string;
  /** Normal form, `scheme://spec`. */
  readonly text: string;
}

const SOURCE_PATTERN = /^([a-z][a-z0-9+.-]*):\/\/(.+)$/;

/**
 * What {@link parseSourceRef} reads, for whoever can refuse a single plugin before it is stored. No check of a whole
 * declaration: one bad source must not stop the plugins beside it.
 */
export const SOURCE_GRAMMAR = String.raw`^\s*(?:${NAME_PATTERN.source.slice(1, -1)}|[a-z][a-z0-9+.-]*://[^\x00-\x1f\x7f]+)\s*$`;

/**
 * For showing a text that no source understood: a password or token that somebody wrote into a URL, against all advice, goes
 * no further. Passwords hold slashes and at-signs too, so that rather too much is taken out.
 */
export function withoutCredentials(text: string): string {
  return redactSecrets(text.replace(/(:\/\/).*@/s, `$1${REDACTED}@`).replace(/\?.*/s, `?${REDACTED}`));
}

/** A bare name is `local://name`. `undefined` when it is neither a name nor `scheme://spec` without control characters. */
export function parseSourceRef(text: string): SourceRef | undefined {
  const trimmed = text.trim();
  // oxlint-disable-next-line no-control-regex -- refusing control characters is the point
  if (/[\u0000-\u001f\u007f]/.test(trimmed)) return undefined;
  if (isName(trimmed)) return { scheme: 'local', spec: trimmed, text: `local://${trimmed}` };
  const match = SOURCE_PATTERN.exec(trimmed);
  if (match?.[1] === undefined || match[2] === undefined) return undefined;
  return { scheme: match[1], spec: match[2], text: trimmed };
}
