import { defineConfig } from 'vitest/config';

// `--mode fakes` leaves out the real back ends (docker, postgres, sshd): see test/support/global-setup.ts.
export default defineConfig({
  test: {
    include: ['test/{unit,contract,sim,e2e,docs}/**/*.test.ts'],
    globalSetup: 'test/support/global-setup.ts',
    // Nothing asserts how long a thing takes; these only end what hangs, on a machine that may be busy.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    teardownTimeout: 60_000,
    restoreMocks: true,
  },
});
