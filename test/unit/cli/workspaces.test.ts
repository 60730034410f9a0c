import { describe, expect, it } from 'vitest';

import type { WorkspaceStore } from '../../../src/ports/workspace-store.ts';
import { workspaceKey } from '../../../src/domain/name.ts';
import { listKeys, requireSome } from '../../../src/cli/workspaces.ts';

describe('a namespace that was asked for', () => {
  it('must have something in it: a check that looked at nothing must not be green', () => {
    expect(() => requireSome([], 'prod')).toThrow('no workspaces are declared in namespace prod');
    expect(() => requireSome([workspaceKey('prod', 'a')], 'prod')).not.toThrow();
    expect(() => requireSome([], undefined)).not.toThrow();
  });
});

describe('a list for people', () => {
  it('is refused where it would be a part of what was asked for', async () => {
    const store = {
      list: () => Promise.resolve([workspaceKey('a', 'alice')]),
      unread: () => new Map([['b', 'HTTP 403']]),
    } as Partial<WorkspaceStore> as WorkspaceStore;
    const { signal } = new AbortController();
    expect(await listKeys(store, 'a', signal)).toEqual(['a/alice']);
    for (const namespace of ['b', undefined])
      await expect(listKeys(store, namespace, signal)).rejects.toThrow('namespace b cannot be read: HTTP 403');
  });
});
