import { REDACTED, redactSecrets } from '../../domain/secrets.ts';

/**
 * Takes secrets out of a text that somebody else wrote: those we know by their value, and what has the shape of one.
 * Control characters go too, since the text ends up on terminals. Cut to a length that fits a condition.
 */
export function scrub(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) if (secret !== '') clean = clean.replaceAll(secret, REDACTED);
  return redactSecrets(clean)
    .replaceAll(/\s*\p{Cc}+\s*/gu, ' ')
    .trim()
    .slice(0, 500);
}
