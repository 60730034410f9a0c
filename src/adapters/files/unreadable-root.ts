import { codeOf } from '../../domain/error-code.ts';
import { transient, type ReconcileError } from '../../domain/errors.ts';
import { unavailable } from './node-error.ts';

export interface Root {
  readonly path: string;
  /** The option or variable that named it. */
  readonly origin: string | undefined;
}

/** Why the directory of declarations could not be read, and what to do about it. */
export function unreadableRoot({ path, origin }: Root, error: unknown): ReconcileError {
  const named = origin === undefined ? path : `${path} (${origin})`;
  const what = explain(path, named, error);
  if (what === undefined) return unavailable(`cannot read the workspaces in ${named}`, error);
  return transient('StoreUnavailable', what, error);
}

function explain(path: string, named: string, error: unknown): string | undefined {
  const isAboutRoot = error instanceof Error && 'path' in error && error.path === path;
  switch (codeOf(error)) {
    case 'ENOENT':
      return isAboutRoot ? `there is no directory ${named}; make it, or name another one` : undefined;
    case 'ENOTDIR':
      return `${named} is no directory; name the one that holds the .yaml files`;
    case 'EACCES':
    case 'EPERM':
      return `plugset may not read ${isAboutRoot ? named : `everything below ${named}`}; check owner and mode`;
    default:
      return undefined;
  }
}
