/*
 * What a secret looks like, for every text that may quote one: log lines, what git and a server said, a source that nobody
 * understood. The last net, not the rule: secrets must not get into such texts at all.
 */

export const REDACTED = '[redacted]';

const SECRET_WORDS =
  'password|passwd|passphrase|token|secret|authori[sz]ation|cookie|credential|api[_-]?key|access[_-]?key|private[_-]?key|connection[_-]?string|database[_-]?url';

const SECRET_NAME = new RegExp(SECRET_WORDS, 'i');

/** The value after a secret name: quoted (in JSON within JSON too), or up to a space or separator. The end may be cut off. */
const VALUE = String.raw`(?:\\+["'][^"']*["']?|"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|[^\s,;&"'\\]+)`;
/** Of a file that holds one the path is told: `secretFile: /etc/plugset/secret`. */
const A_PATH = String.raw`(?![\w-]{0,64}file\\{0,4}["']?\s{0,8}[=:]\s{0,8}\\{0,4}["']?(?:[/~]|\.{1,2}/))`;
const ASSIGNED = String.raw`[\w-]{0,64}\\{0,4}["']?\s{0,8}[=:]\s{0,8}`;
const NOT_YET_SEEN = String.raw`(?!\[redacted\]|bearer\b|basic\b)`;

/**
 * Each finds a secret; what it captures before is kept. Repetitions that could begin anywhere are bounded, or a long line
 * without a secret would hold up the process for seconds.
 */
const SECRET_SHAPES: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g, REDACTED],
  // user:password@ of a URL, also with a slash or an @ in the password; a port followed by a path is none.
  [
    /([a-z][a-z0-9+.-]{0,20}:\/\/)(?:[^\s/?#:@]{0,256}:(?!\d+(?:[/?#]|$))[^\s"'<>]{0,512}|[^\s/?#"'<>]{0,512})@/gi,
    `$1${REDACTED}@`,
  ],
  // A header line to its end: what follows the name is a scheme and a secret, and a server that echoes it may go on.
  [/\b((?:proxy-)?authorization|private-token|x-api-key|(?:set-)?cookie)(["']?\s{0,8}[:=]).+/gi, `$1$2 ${REDACTED}`],
  [/\b(bearer\s+)[\w.~+/=-]{6,}/gi, `$1${REDACTED}`],
  // Prose has "basic authentication" too; base64 of a user and a password has a digit, a capital or padding in it.
  [/\b([Bb]asic\s+)(?=[a-z+/]*[A-Z0-9=])[\w+/=-]{8,}/g, `$1${REDACTED}`],
  [/\beyJ[\w-]{8,2048}\.[\w-]+\.[\w-]*/g, REDACTED],
  [/\b(?:gh[pousr]_|github_pat_|glpat-|xox[a-z]-)[\w-]{6,}/g, REDACTED],
  [/\bsk-(?=[a-z-]*[A-Z0-9])[\w-]{16,}/g, REDACTED],
  [/\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}\b/g, REDACTED],
  [new RegExp(`((?:${SECRET_WORDS})${A_PATH}${ASSIGNED})${NOT_YET_SEEN}${VALUE}`, 'gi'), `$1${REDACTED}`],
];

/** Whether what goes under this name is a secret, whatever it looks like. The path of a file that holds one is none. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name) && !/file$/i.test(name);
}

/** The text without anything that has the shape of a secret. Doing it twice changes nothing more. */
export function redactSecrets(text: string): string {
  let redacted = text;
  for (const [shape, replacement] of SECRET_SHAPES) redacted = redacted.replace(shape, replacement);
  return redacted;
}

/** Characters that a secret has at least which is to prove who wrote a message. */
export const LEAST_SIGNING_SECRET = 16;
