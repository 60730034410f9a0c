import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { expect, test } from 'vitest';

const DIRECTORY = fileURLToPath(new URL('../../../src/plugins/', import.meta.url));
const SCRIPTS = readdirSync(DIRECTORY).flatMap((name) => (name.endsWith('.sh') ? [join(DIRECTORY, name)] : []));
const shellcheck = spawnSync('shellcheck', ['-s', 'sh', ...SCRIPTS], { encoding: 'utf8' });
const isMissing = shellcheck.error !== undefined;

test.skipIf(isMissing && process.env['CI'] !== 'true')('the scripts are clean POSIX sh', () => {
  expect(shellcheck.error).toBeUndefined();
  expect(shellcheck.stdout).toBe('');
});
