import { redactSecrets } from '../../domain/secrets.ts';

/** Longer texts are cut: a log line is no place for the output of a command. */
const TEXT_LIMIT = 16_384;

/** The text, of a length that fits a log line, without anything that has the shape of a secret. */
export function redactText(text: string): string {
  return redactSecrets(cut(text));
}

/** Cuts at a space where there is one near, so that no half of a secret is left that no longer looks like one. */
function cut(text: string): string {
  if (text.length <= TEXT_LIMIT) return text;
  const kept = text.slice(0, TEXT_LIMIT);
  const lastSpace = kept.search(/\s\S{0,1024}$/);
  return `${lastSpace < 0 ? kept : kept.slice(0, lastSpace)} … (${text.length} characters)`;
}
