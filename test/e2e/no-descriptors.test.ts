import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import { expect, it } from 'vitest';

const run = promisify(execFile);

/** Starts processes while no file descriptor is left, as plugset does for directories and for git. */
const SCRIPT = `
  import fs from 'node:fs';
  import { runChild } from './dist/adapters/directory/run-child.js';
  import { startChild } from './dist/adapters/git/child-process.js';
  import { SystemClock } from './dist/adapters/system/clock.js';
  const clock = new SystemClock();
  const { signal } = new AbortController();
  const taken = [];
  try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
  const say = (error) => [error.class, error.reason];
  const options = { as: 'observer', deadlineMs: 60_000, signal };
  const directory = await runChild({ argv: ['true'], directory: '/', entrance: '/', searchPath: '/bin', options, clock }).catch(say);
  let git;
  const limits = { memoryBytes: 2 ** 31, fileBytes: 2 ** 20 };
  try { startChild({ argv: ['git'], env: {}, cwd: '/', limits, clock, signal }); } catch (error) { git = say(error); }
  for (const fd of taken) fs.closeSync(fd);
  setTimeout(() => process.stdout.write(JSON.stringify({ directory, git })), 50);
`;

it('a process without a file descriptor left fails its passes and lives on', async () => {
  const limited = 'ulimit -n 64; exec "$@"';
  const { stdout } = await run('sh', ['-c', limited, 'sh', process.execPath, '--input-type=module', '-e', SCRIPT]);
  expect(JSON.parse(stdout)).toEqual({
    directory: ['transient', 'Unreachable'],
    git: ['transient', 'SourceUnavailable'],
  });
});
