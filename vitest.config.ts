import { availableParallelism } from 'node:os';

import { defineConfig } from 'vitest/config';

const INCLUDE: Readonly<Record<string, readonly string[]>> = {
  bench: ['test/bench/*.bench.ts'],
  ec2: ['test/ec2/*.test.ts'],
};

// `--mode fakes` leaves out the real back ends (docker, postgres, sshd): see test/support/global-setup.ts.
// `--mode bench` measures on them instead of testing: npm run bench.
// `--mode ec2` needs an AWS account: npm run test:ec2.
export default defineConfig(({ mode }) => ({
  test: {
    include: [...(INCLUDE[mode] ?? ['test/{unit,contract,sim,e2e,docs}/**/*.test.ts'])],
    globalSetup: 'test/support/global-setup.ts',
    // Nothing asserts how long a thing takes; these only end what hangs, on a machine that may be busy.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    teardownTimeout: 60_000,
    // Most of the time is spent waiting for containers, databases and git.
    maxWorkers: availableParallelism() + 1,
    // One after the other where time is measured.
    fileParallelism: mode !== 'bench',
  },
}));
