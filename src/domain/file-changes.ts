import type { TreeLists } from './tree.ts';

/** Paths in which two trees differ, each sorted as in their lists. Never what is in them. */
export interface FileChanges {
  readonly added: readonly string[];
  /** Other content, or gained or lost the executable bit. */
  readonly changed: readonly string[];
  readonly removed: readonly string[];
}

export function fileChanges(before: TreeLists, after: TreeLists): FileChanges {
  const old = identities(before);
  const young = identities(after);
  const paths = [...young.keys()];
  return {
    added: paths.filter((path) => !old.has(path)),
    changed: paths.filter((path) => old.has(path) && old.get(path) !== young.get(path)),
    removed: [...old.keys()].filter((path) => !young.has(path)),
  };
}

const HEX_LENGTH = 64;
const GAP = '  ';

/** What each path holds, by its hash and its executable bit. */
function identities({ files, executables }: TreeLists): ReadonlyMap<string, string> {
  const isExecutable = new Set(linesOf(executables));
  return new Map(
    linesOf(files).map((line) => {
      const path = line.slice(HEX_LENGTH + GAP.length);
      return [path, `${line.slice(0, HEX_LENGTH)}${isExecutable.has(path) ? ' x' : ''}`];
    }),
  );
}

function linesOf(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '');
}
