import { aborted } from '../../domain/errors.ts';
import { isLaterTurn, type Fence } from '../../domain/fence.ts';
import type { FenceFloor } from './fence-floor.ts';

/**
 * Throws `NotLeader` when a newer turn has begun. Asked right before a write and not with it: what may slip in between is
 * found out by the version that the write names, or overwritten by the newer turn in its first pass.
 */
export async function expectNewestTurn(
  floor: FenceFloor,
  fence: Fence,
  what: string,
  signal: AbortSignal,
): Promise<void> {
  const newest = await floor.current(signal);
  // Whoever wins a turn says so itself; here in case that document was taken away since.
  const isFirst = newest === undefined || isLaterTurn(fence, newest);
  const known = isFirst && !(await floor.raise(fence, signal)) ? await floor.current(signal) : newest;
  if (known !== undefined && isLaterTurn(known, fence)) {
    throw aborted(`${what} was not written: another process leads since a newer turn`);
  }
}
