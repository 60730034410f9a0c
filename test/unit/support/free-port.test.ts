import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

import { expect, it } from 'vitest';

import { freePort } from '../../support/free-port.ts';

it('gives no port twice, also when all are asked for at once', async () => {
  const ports = await Promise.all(Array.from({ length: 300 }, () => freePort()));
  expect(new Set(ports).size).toBe(ports.length);
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', TRY_TO_HAVE(ports[0] ?? 0)]);
  expect(stdout).toBe('EADDRINUSE');
  // Held by a name of the kernel's, which ends with this process.
  expect(await readFile('/proc/net/unix', 'utf8')).toContain(`@plugset-test-port-${ports[0]}`);
});

const TRY_TO_HAVE = (port: number): string =>
  `require('net').createServer().on('error', ({ code }) => process.stdout.write(code)).listen('\\0plugset-test-port-${port}')`;
