import { MemoryControllerState, MemoryStateBackend } from '../support/memory-state.ts';
import { describeControllerState } from './controller-state.ts';

describeControllerState('memory', {
  async create() {
    const backend = new MemoryStateBackend();
    return {
      open: async () => new MemoryControllerState(backend),
      async break() {
        backend.isBroken = true;
      },
      async heal() {
        backend.isBroken = false;
      },
      dispose: async () => undefined,
    };
  },
});
