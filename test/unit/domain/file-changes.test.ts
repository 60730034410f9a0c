import { describe, expect, it } from 'vitest';

import { fileChanges } from '../../../src/domain/file-changes.ts';
import { treeLists, type TreeLists } from '../../../src/domain/tree.ts';

/** Content by path; a `*` at the end of the path makes it executable. */
function tree(files: Readonly<Record<string, string>>): TreeLists {
  return treeLists(
    Object.entries(files).map(([path, hex]) => ({
      path: path.replace(/\*$/, ''),
      sha256: hex.repeat(64),
      size: 1,
      executable: path.endsWith('*'),
    })),
  );
}

describe('what differs between two trees', () => {
  it('is told by path: added, changed in content or mode, removed', () => {
    const before = tree({ 'SKILL.md': 'a', 'run.sh': 'b', 'old  name.md': 'c', same: 'd' });
    const after = tree({ 'SKILL.md': 'e', 'run.sh*': 'b', 'docs/new.md': 'c', same: 'd' });
    expect(fileChanges(before, after)).toEqual({
      added: ['docs/new.md'],
      changed: ['SKILL.md', 'run.sh'],
      removed: ['old  name.md'],
    });
    expect(fileChanges(before, before)).toEqual({ added: [], changed: [], removed: [] });
  });
});
