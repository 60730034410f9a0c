/** What a person gave that cannot be used; the message says where it was given and what it takes. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}
