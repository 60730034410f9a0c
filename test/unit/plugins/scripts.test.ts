import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const SCRIPTS = ['look.sh', 'apply.sh'].map((name) =>
  fileURLToPath(new URL(`../../../src/plugins/${name}`, import.meta.url)),
);
const shellcheck = spawnSync('shellcheck', ['-s', 'sh', ...SCRIPTS], { encoding: 'utf8' });
const isMissing = shellcheck.error !== undefined;

test.skipIf(isMissing && process.env['CI'] !== 'true')('the scripts are clean POSIX sh', () => {
  expect(shellcheck.error).toBeUndefined();
  expect(shellcheck.stdout).toBe('');
});
