/*
 * SSH has no argv: the host hands one text to the login shell of the user. This is the one place where such text is made.
 *
 * The login shell may be any (csh breaks at a line end in quotes and expands `!`, fish reads `\'` in them), so it gets to see
 * nothing but letters, digits and a little punctuation in single quotes, and only starts `sh` with it.
 */

/**
 * The text that has every login shell run `argv` in its own place, with `settings` (`NAME=value`) in its environment. First
 * of all, `mark` goes to both outputs: whatever a shell greets with comes before it, and what comes after it is the command's.
 */
export function commandText(argv: readonly string[], mark: string, settings: readonly string[] = []): string {
  const marks = `printf %s ${quoted(mark)}; printf %s ${quoted(mark)} >&2`;
  const exports = settings.map((setting) => `export ${quoted(setting)}; `).join('');
  return `exec /bin/sh -c 'eval "$(printf %b "$1")"' sh '${encoded(`${marks}; ${exports}exec ${argv.map(quoted).join(' ')}`)}'`;
}

/** For a POSIX shell. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

const OCTAL = Array.from({ length: 256 }, (_, byte) => `\\0${byte.toString(8).padStart(3, '0')}`);

/** For `printf %b`: every byte but the plainest as an octal number. */
function encoded(text: string): string {
  return Buffer.from(text)
    .toString('latin1')
    .replaceAll(/[^A-Za-z0-9 _./:=,+@-]/g, (byte) => OCTAL[byte.charCodeAt(0)] ?? byte);
}
