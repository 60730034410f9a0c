import { SystemClock } from '../../src/adapters/system/clock.ts';
import { DEFAULT_POLICY } from '../../src/domain/workspace.ts';
import { MemoryStoreBackend, MemoryWorkspaceStore } from '../support/memory-store.ts';
import { describeWorkspaceStore } from './workspace-store.ts';

describeWorkspaceStore('memory', {
  defaultPolicy: DEFAULT_POLICY,
  origin: /^memory \(/,
  async create() {
    const backend = new MemoryStoreBackend(new SystemClock());
    return {
      open: async () => new MemoryWorkspaceStore(backend),
      declare: async (manifest) => backend.declare(manifest),
      remove: async (key) => void backend.remove(key),
      malform: async (key) => backend.malform(key),
      break: async () => backend.break(),
      heal: async () => backend.heal(),
      fence: (turn) => ({ authority: 'memory', epoch: 1, n: turn }),
      dispose: async () => {},
    };
  },
});
