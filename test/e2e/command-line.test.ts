import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { access, chmod, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { freshDatabase, type FreshDatabase } from '../support/fresh-database.ts';
import { writePlugin } from '../support/plugset.ts';

/** The built program; `npm test` builds it. */
const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface Started {
  readonly child: ChildProcessByStdio<null, Readable, Readable>;
  readonly ended: Promise<Ended>;
}

await withBackend('postgres', (serverUrl) => {
  describe('plugset in a process of its own', () => {
    let base: string;
    let database: FreshDatabase;
    let env: Record<string, string>;
    let started: Started[];

    beforeEach(async () => {
      base = await realpath(await mkdtemp(join(tmpdir(), 'plugset-cli-')));
      database = await freshDatabase(serverUrl);
      started = [];
      for (const dir of ['root', 'root/alice', 'registry']) await mkdir(join(base, dir));
      await writePlugin(join(base, 'registry/superpowers'), { 'SKILL.md': '# one\n' });
      env = {
        PATH: process.env['PATH'] ?? '',
        HOME: base,
        DATABASE_URL: database.url,
        PLUGSET_ROOT: join(base, 'root'),
        PLUGSET_REGISTRY: join(base, 'registry'),
        PLUGSET_CACHE_DIR: join(base, 'cache'),
        PLUGSET_DOCKER_HOST: `unix://${base}/no-docker.sock`,
        PLUGSET_LISTEN: '127.0.0.1:0',
      };
      await writeFile(
        join(base, 'alice.yaml'),
        `apiVersion: plugset.dev/v1alpha1
kind: Workspace
metadata: {name: alice}
spec:
  runtime: claude-code
  target: {directory: {path: '${base}/root/alice'}}
  plugins: [{name: superpowers, source: superpowers}]
`,
      );
    });

    afterEach(async () => {
      for (const { child } of started) child.kill('SIGKILL');
      await Promise.all(started.map(({ ended }) => ended));
      await database.drop();
      await rm(base, { recursive: true, force: true });
    });

    function start(...argv: readonly string[]): Started {
      const child = spawn(process.execPath, [MAIN, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      const ended = Promise.all([text(child.stdout).catch(() => ''), text(child.stderr), once(child, 'close')]).then(
        ([stdout, stderr]) => ({ code: child.exitCode, stdout, stderr }),
      );
      started.push({ child, ended });
      return { child, ended };
    }

    const run = (...argv: readonly string[]): Promise<Ended> => start(...argv).ended;

    it('takes a person from a file to a workspace that is kept as declared, and back', async () => {
      expect(await run('apply', '-f', join(base, 'alice.yaml'))).toMatchObject({
        code: 0,
        stdout: 'workspace default/alice created\n',
      });
      expect(await run('plan')).toMatchObject({ code: 2, stderr: '' });

      const daemon = start('run', '--lease', '2');
      expect(await run('reconcile', 'alice', '--wait', '--timeout', '60s')).toMatchObject({ code: 0, stderr: '' });
      expect(await readFile(join(base, 'root/alice/plugins/superpowers/SKILL.md'), 'utf8')).toBe('# one\n');
      expect(await run('plan')).toMatchObject({ code: 0 });

      expect(await run('delete', 'alice')).toMatchObject({ code: 0 });
      await eventually(async () => expect((await run('status')).stderr).toBe('no workspaces are declared\n'));
      await expect(access(join(base, 'root/alice/plugins/superpowers'))).rejects.toThrow(/ENOENT/);

      daemon.child.kill('SIGTERM');
      const { code, stdout } = await daemon.ended;
      expect(code).toBe(0);
      for (const line of stdout.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('msg');
    });

    it('makes one pass without a daemon', async () => {
      await run('apply', '-f', join(base, 'alice.yaml'));
      const { code, stdout, stderr } = await run('once');
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toMatch(/default +alice +True +Succeeded +1\/1/);
    });

    it('ends quietly when its reader goes away', async () => {
      await run('apply', '-f', join(base, 'alice.yaml'));
      const watch = start('status', '-w');
      await once(watch.child.stdout, 'data');
      watch.child.stdout.destroy();
      // The next row that changes is written into the void.
      await run('once');
      // Who leads is told there; the pipe is not spoken of.
      const stderr: unknown = expect.stringMatching(/^(?:(?:no|a) controller .*\n)*$/);
      expect(await watch.ended).toMatchObject({ code: 141, stderr });
    });

    it('says that an output cannot be written', async () => {
      const child = spawn('sh', ['-c', 'exec "$0" "$@" >/dev/full', process.execPath, MAIN, '--help'], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const [stderr] = await Promise.all([text(child.stderr), once(child, 'close')]);
      expect(stderr).toBe('error: cannot write the output (ENOSPC)\n');
      expect(child.exitCode).toBe(1);
    });

    it('ends what waits at the first signal', async () => {
      await run('apply', '-f', join(base, 'alice.yaml'));
      const watch = start('status', '-w');
      await once(watch.child.stdout, 'data');
      watch.child.kill('SIGINT');
      expect(await watch.ended).toMatchObject({ code: 130, stderr: '' });
    });

    it('drains at the first signal and ends at once at the second', async () => {
      await run('apply', '-f', join(base, 'alice.yaml'));
      const pidFile = await hangingShell();
      const daemon = start('run', '--grace', '600');
      const pid = await eventually(async () => Number(await readFile(pidFile, 'utf8')));
      try {
        daemon.child.kill('SIGTERM');
        const stillThere = await run('status');
        expect(stillThere.code).toBe(0);
        expect(daemon.child.exitCode).toBeNull();
        daemon.child.kill('SIGTERM');
        expect((await daemon.ended).code).toBe(143);
      } finally {
        kill(pid);
      }
    });

    /** From now on a look at a directory never ends. Answers where the shell that hangs writes its process id. */
    async function hangingShell(): Promise<string> {
      const bin = join(base, 'bin');
      await mkdir(bin);
      await writeFile(
        join(bin, 'sh'),
        `#!/bin/bash\necho $$ >'${base}/pid.new' && mv '${base}/pid.new' '${base}/pid'\nexec sleep 600\n`,
      );
      await chmod(join(bin, 'sh'), 0o755);
      env['PATH'] = `${bin}:${env['PATH'] ?? ''}`;
      return join(base, 'pid');
    }
  });
});

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It went with the daemon.
  }
}
