/**
 * Takes secrets out of a text that somebody else wrote: those we know by their value, and what has the shape of one.
 * Control characters go too, since the text ends up on terminals. Cut to a length that fits a condition.
 */
export function scrub(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) if (secret !== '') clean = clean.replaceAll(secret, '***');
  for (const [shape, replacement] of SHAPES) clean = clean.replaceAll(shape, replacement);
  return clean
    .replaceAll(/\s*\p{Cc}+\s*/gu, ' ')
    .trim()
    .slice(0, 500);
}

const SHAPES: readonly (readonly [RegExp, string])[] = [
  // Everything between :// and the last @ of the authority.
  [/([a-z][a-z0-9+.-]*:\/\/)[^\s/'"]*@/gi, '$1***@'],
  [/\b(authorization|proxy-authorization|private-token|x-api-key|cookie)(["']?\s*[:=]\s*).+/gi, '$1$2***'],
  [/\b(basic|bearer|token)\s+[A-Za-z0-9+/=._~-]{8,}/gi, '$1 ***'],
  [/\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-|AKIA|sk-)[A-Za-z0-9_-]{8,}/g, '***'],
  [/\b(password|passwd|secret|token|access_token|api_key)(["']?\s*[:=]\s*)[^\s&'"]+/gi, '$1$2***'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, '***'],
  [/\b(?:[0-9a-f]{8,})(?=:x-oauth-basic)/gi, '***'],
];
