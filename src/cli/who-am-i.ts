import { hostname, userInfo } from 'node:os';

/** Who runs this command, for what is put on record. */
export function whoAmI(): string {
  try {
    return `${userInfo().username}@${hostname()}`;
  } catch {
    // A container may run under a number that has no name.
    return `${process.getuid?.() ?? '?'}@${hostname()}`;
  }
}
