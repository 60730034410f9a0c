import { codeOf } from '../../domain/error-code.ts';
import { terminal, transient, type ReconcileError } from '../../domain/errors.ts';

/** Gone, or no longer a directory on the way. */
export function isMissing(error: unknown): boolean {
  const code = codeOf(error);
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** What a failed access to our own files means to the caller of a store. */
export function unavailable(what: string, error: unknown): ReconcileError {
  const code = codeOf(error);
  const detail = code === 'EACCES' ? ': it belongs to another user; run plugset as that one' : ` (${code})`;
  return transient('StoreUnavailable', code === undefined ? what : `${what}${detail}`, error);
}

/** What a failed write to a person's directory means: nothing helps but a person. */
export function refusedWrite(path: string, error: unknown): ReconcileError {
  const code = codeOf(error);
  if (code === 'EROFS')
    return terminal('ReadOnly', `${path} is on a read-only file system; edit it where it comes from`, error);
  if (code === 'EACCES' || code === 'EPERM') {
    return terminal('PermissionDenied', `plugset may not write ${path}; check its owner and mode`, error);
  }
  return unavailable(`cannot write ${path}`, error);
}
