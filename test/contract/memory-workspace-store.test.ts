import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import type { WorkspaceStore } from '../../src/ports/workspace-store.ts';
import { ClaimingMemoryStore, MemoryStoreBackend, MemoryWorkspaceStore } from '../support/memory-store.ts';
import { describeWorkspaceStore, WITHOUT_CLAIMS, type WorkspaceStoreHarness } from './workspace-store.ts';

describeWorkspaceStore('memory', {
  ...harnessOf((backend) => new MemoryWorkspaceStore(backend)),
  unsupported: WITHOUT_CLAIMS,
});
describeWorkspaceStore(
  'memory where deletions are claimed',
  harnessOf((backend) => new ClaimingMemoryStore(backend)),
);

function harnessOf(open: (backend: MemoryStoreBackend) => WorkspaceStore): WorkspaceStoreHarness {
  return {
    defaultPolicy: DEFAULT_POLICY,
    origin: /^memory \(/,
    async create() {
      const backend = new MemoryStoreBackend(new SystemClock());
      return {
        open: async () => open(backend),
        declare: async (manifest) => backend.declare(manifest),
        remove: async (key) => void backend.remove(key),
        malform: async (key) => backend.malform(key),
        break: async () => backend.break(),
        heal: async () => backend.heal(),
        fence: (turn) => ({ authority: 'memory', epoch: 1, n: turn }),
        dispose: async () => {},
      };
    },
  };
}
