import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';

import { causeOf, codeOf } from '../domain/error-code.ts';
import { fail, ok, warn, type Seen } from './check.ts';

const OTHERS = 0o077;

export function user(): string {
  const uid = process.getuid?.();
  return uid === undefined ? 'this user' : uid === 0 ? 'root' : `uid ${uid}`;
}

/** Whether a file can be read that nobody else should read. `contents` then says what is in it, or what is wrong with it. */
export async function secretFile(
  path: string,
  name: string,
  contents: () => Promise<Seen | readonly Seen[]>,
): Promise<readonly Seen[]> {
  const unreadable = await cannotBeRead(path, name);
  if (unreadable !== undefined) return [unreadable];
  const { mode } = await stat(path);
  const others = mode & OTHERS;
  const isOpen =
    others === 0
      ? []
      : [
          warn(
            `${path}: others can read it (mode ${(mode & 0o777).toString(8).padStart(4, '0')})`,
            `Run chmod 600 ${path}, or mount it with mode 0400.`,
          ),
        ];
  return [...[await contents()].flat(), ...isOpen];
}

export async function cannotBeRead(path: string, name: string): Promise<Seen | undefined> {
  try {
    if (!(await stat(path)).isFile()) return fail(`${path} is no file`, `Correct ${name}.`);
    await access(path, constants.R_OK);
    return undefined;
  } catch (error) {
    const fix =
      codeOf(error) === 'ENOENT'
        ? `Put the file there, or correct ${name}.`
        : `Let ${user()} read it, or run plugset as its owner.`;
    return fail(`${path} cannot be read (${causeOf(error)})`, fix);
  }
}

/** Whether plugset can keep something in a directory that it makes itself where it is missing. */
export async function keptIn(path: string, name: string): Promise<Seen> {
  try {
    const place = await nearest(path);
    await access(place, constants.W_OK | constants.X_OK);
    const stats = await stat(place);
    if (!stats.isDirectory()) return fail(`${place} is no directory`, `Correct ${name}.`);
    if (place !== path) return ok(`${path} is not there yet, and can be made`);
    return (stats.mode & OTHERS) === 0 || name !== 'store.stateDirectory'
      ? ok(`${path} can be written`)
      : warn(`${path} can be written, and others can look into it`, `Run chmod 700 ${path}.`);
  } catch (error) {
    return fail(
      `${path} cannot be written (${causeOf(error)})`,
      `Make it writable for ${user()}, or name another one: ${name}.`,
    );
  }
}

/** Free bytes where a directory is or would be. */
export async function freeBytesAt(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(await nearest(path));
  return bavail * bsize;
}

/** The path itself, or the innermost directory above it that exists. */
async function nearest(path: string): Promise<string> {
  try {
    await stat(path);
    return path;
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path) throw error;
    return nearest(dirname(path));
  }
}

export function bytes(count: number): string {
  const gib = count / 1024 ** 3;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.floor(count / 1024 ** 2)} MiB`;
}
