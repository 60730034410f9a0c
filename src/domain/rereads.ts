import { fileChanges, type FileChanges } from './file-changes.ts';
import type { ObservedPlugin } from './observation.ts';
import type { PlanEntry } from './plan.ts';
import { treeDigest, type TreeLists } from './tree.ts';

/*
 * What a runtime takes up without being restarted: files that it reads anew each time it needs them. Which they are, its
 * profile says; what is not known to be one of them takes a restart.
 */

/** A look tells so many of the files that differ, and not that there are more. */
const MOST_TOLD = 20;

/**
 * Whether everything that an entry changes is reread. `observed` with its lists, as it was planned from; `wanted`: lists of
 * the declared tree. What comes or goes as a whole takes a restart: a runtime learns of its plugins when it starts.
 */
export function isTakenUpByItself(
  { action, from }: Pick<PlanEntry, 'action' | 'from'>,
  observed: ObservedPlugin | undefined,
  wanted: TreeLists | undefined,
  rereads: readonly string[],
): boolean {
  const isRereadPath = rereadTest(rereads);
  const before = observed?.lists;
  if (observed === undefined || before === undefined || wanted === undefined) return false;
  // Under what somebody has changed there by hand the runtime may have started.
  if (observed.differing.length >= MOST_TOLD || !observed.differing.every(isRereadPath)) return false;
  if (action !== 'replace' && action !== 'restore') return false;
  if (treeDigest(before) !== (from ?? observed.listDigest)) return false;
  return pathsOf(fileChanges(before, wanted)).every(isRereadPath);
}

function pathsOf({ added, changed, removed }: FileChanges): readonly string[] {
  return [...added, ...changed, ...removed];
}

/** `*` and `?` within a segment, `**` over any number of them. */
function rereadTest(patterns: readonly string[]): (path: string) => boolean {
  const tests = patterns.map((pattern) => new RegExp(`^${pattern.split('/').map(segmentSource).join('')}$`));
  // Every segment is matched with the slash behind it.
  return (path) => tests.some((test) => test.test(`${path}/`));
}

function segmentSource(segment: string): string {
  if (segment === '**') return '(?:[^/]+/)*';
  const text = segment.replaceAll(/[\\^$.*+?()[\]{}|]/g, (special) =>
    special === '*' ? '[^/]*' : special === '?' ? '[^/]' : `\\${special}`,
  );
  return `${text}/`;
}
