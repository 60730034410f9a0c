import { execFile, spawn } from 'node:child_process';
import { once, setMaxListeners } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

import { describe, expect, it, onTestFinished } from 'vitest';

import { ScriptedPluginHost } from '../../src/plugins/plugin-host.ts';
import type { WorkspaceTarget } from '../../src/ports/workspace-target.ts';
import { withBackend } from '../support/backend.ts';
import { eventually } from '../support/eventually.ts';
import { AGENT, CONFIG_DIR, SshHost, type SshHostOptions } from '../support/ssh-host.ts';
import { memoryArtifact } from '../support/memory-artifact.ts';
import { Bench } from './plugin-host.ts';

const SIGNAL = new AbortController().signal;
// One signal for 20 runs at once is no leak.
setMaxListeners(0, SIGNAL);

/** What happens to connections, beyond what every target must stand. */
await withBackend('machine', () => {
  describe('the connection to a host', () => {
    it('is made once for all who wait for it, and serves more commands than it takes at once', async () => {
      const host = await boot();
      const target = await host.locate();
      const codes = Array.from({ length: 20 }, (_, index) => index);
      const results = await Promise.all(codes.map((code) => run(target, ['sh', '-c', `sleep 0.1; exit ${code}`])));
      expect(results.map((result) => result.kind === 'exited' && result.code)).toEqual(codes);
      expect(host.line.accepted).toBe(1);
    });

    it('has others beside it where it has room for few commands, and they end with the last of these', async () => {
      const host = await boot({ machine: { sshdConfig: ['MaxSessions 2'] } });
      const target = await host.locate();
      const lasting = [1, 2].map(() => run(target, ['sh', '-c', 'while ! [ -e /tmp/go ]; do sleep 0.05; done']));
      const codes = Array.from({ length: 10 }, (_, index) => index);
      const results = await Promise.all(codes.map((code) => run(target, ['sh', '-c', `sleep 0.1; exit ${code}`])));
      expect(results.map((result) => result.kind === 'exited' && result.code)).toEqual(codes);
      await host.machine.machine.exec(['touch', '/tmp/go']);
      for (const result of await Promise.all(lasting)) expect(result).toMatchObject({ code: 0 });
      await eventually(() => expect(host.line.connections).toBeLessThanOrEqual(1));
    });

    it('is cut in mid-transfer: nobody knows, and the next command has another one', async () => {
      const host = await boot();
      const target = await host.locate();
      host.line.cutAfter(3_000_000);
      expect(await run(target, ['cat'], { stdin: zeros(20_000_000) })).toMatchObject({ kind: 'unknown' });
      expect(await run(target, ['true'])).toMatchObject({ code: 0 });
      expect(host.line.connections).toBe(1);
    });

    it('is cut in the middle of an apply: nothing of it is there, and the next apply goes through', async () => {
      const host = await boot();
      const bench = new Bench({
        host: new ScriptedPluginHost(),
        target: await host.locate(),
        configDir: CONFIG_DIR,
        owner: AGENT,
        shell: (script) => host.machine.machine.shell(`cd ${CONFIG_DIR}; ${script}`),
        hide: async () => undefined,
        seal: async () => undefined,
        dispose: () => host.close(),
      });
      const plugin = memoryArtifact({ 'large.bin': randomBytes(4_000_000).toString('hex'), 'SKILL.md': 'one\n' });
      host.line.cutAfter(1_000_000);
      expect(await bench.refusal(bench.converge([bench.put('one', plugin)], [plugin]))).toMatchObject({
        class: 'unknown',
        reason: 'OutcomeUnknown',
      });
      expect(await bench.lookAt('one')).toBeUndefined();
      await bench.converge([bench.put('one', plugin)], [plugin]);
      expect(await bench.lookAt('one')).toMatchObject({ present: true });
    });

    it('leads to a host that is frozen: given up after the deadline, and made anew when the host is back', async () => {
      const host = await boot();
      const target = await host.locate();
      await host.machine.machine.freeze();
      expect(await run(target, ['true'], { deadlineMs: 1_000 }).catch((error: unknown) => error)).toMatchObject({
        reason: 'ExecTimeout',
      });
      await host.machine.machine.thaw();
      expect(await run(await host.locate(), ['true'])).toMatchObject({ code: 0 });
      expect(host.line.accepted).toBe(2);
    });

    it('leads to a host that freezes under a command: nobody knows what becomes of it', async () => {
      const host = await boot();
      const target = await host.locate();
      const running = run(target, ['sh', '-c', `echo >${CONFIG_DIR}/started; sleep 1000`], { deadlineMs: 2_000 });
      await eventually(() => host.machine.machine.exec(['test', '-e', `${CONFIG_DIR}/started`]));
      await host.machine.machine.freeze();
      expect(await running).toMatchObject({ kind: 'unknown' });
      await host.machine.machine.thaw();
      expect(await run(target, ['true'])).toMatchObject({ code: 0 });
    });
  });

  describe('the user who logs in', () => {
    for (const shell of ['/bin/dash', '/bin/bash', '/usr/bin/zsh', '/usr/bin/fish']) {
      it(`may have ${shell}, and let it greet`, async () => {
        const users = [
          { name: 'ubuntu', uid: 1000, shell },
          { name: 'agent', uid: AGENT.uid, sudo: false },
        ];
        const host = await boot({ machine: { users } });
        const home = `${host.machine.machine.root}/home/ubuntu`;
        for (const file of ['.bashrc', '.zshenv'])
          await writeFile(`${home}/${file}`, 'echo hello; echo hello >&2; umask 077\n');
        const target = await host.locate();
        for (const as of ['observer', AGENT] as const) {
          const result = await run(target, ['sh', '-c', 'printf "<%s>" "$@"', 'sh', "it's", 'a\nb', '!x', '$y'], {
            as,
          });
          expect(result).toMatchObject({ kind: 'exited', code: 0 });
          if (result.kind === 'exited') {
            expect(result.stdout.toString()).toBe("<it's><a\nb><!x><$y>");
            expect(result.stderr.toString()).toBe('');
          }
        }
      });
    }

    it('needs a shell that runs something', async () => {
      const users = [{ name: 'ubuntu', uid: 1000, shell: '/usr/sbin/nologin' }];
      const host = await boot({ machine: { users } });
      await expect(run(await host.locate(), ['true'])).rejects.toMatchObject({
        class: 'terminal',
        reason: 'PermissionDenied',
      });
    });

    it('looks as himself where he may not be root, and writes for nobody else', async () => {
      const users = [
        { name: 'ubuntu', uid: 1000, sudo: false },
        { name: 'agent', uid: AGENT.uid, sudo: false },
      ];
      const target = await (await boot({ machine: { users } })).locate();
      const id = async (as: 'observer' | { uid: number; gid: number }) => {
        const result = await run(target, ['id', '-u'], { as });
        return result.kind === 'exited' ? result.stdout.toString() : result;
      };
      expect(await id('observer')).toBe('1000\n');
      expect(await id({ uid: 1000, gid: 1000 })).toBe('1000\n');
      await expect(id(AGENT)).rejects.toMatchObject({ class: 'terminal', reason: 'SudoRefused' });
    });

    it('may have a sudo that hangs: nothing of the question is left running', async () => {
      const host = await boot();
      const { machine } = host.machine;
      await machine.shell('mv /usr/bin/sudo /usr/bin/real-sudo && touch /tmp/hang');
      const sudo = '[ -e /tmp/hang ] && exec sleep 3600\nexec /usr/bin/real-sudo "$@"';
      await machine.shell(`printf '#!/bin/sh\n%s\n' '${sudo}' >/usr/bin/sudo && chmod 755 /usr/bin/sudo`);
      const target = await host.locate();
      await expect(run(target, ['true'], { deadlineMs: 2_000 })).rejects.toMatchObject({ reason: 'ExecTimeout' });
      await expect(machine.exec(['pgrep', '-x', 'sleep'])).rejects.toMatchObject({ code: 1 });
      await machine.shell('rm /tmp/hang');
      expect(await run(target, ['true'])).toMatchObject({ code: 0 });
      // The connection was not at fault.
      expect(host.line.accepted).toBe(1);
    });

    it('may keep his key in an agent', async () => {
      const host = await boot();
      const socket = join(dirname(host.machine.clientKeyFile), 'agent');
      const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
      onTestFinished(async () => {
        agent.kill();
        await once(agent, 'close');
      });
      const add = promisify(execFile);
      await eventually(() =>
        add('ssh-add', ['-q', host.machine.clientKeyFile], { env: { SSH_AUTH_SOCK: socket, PATH: '/usr/bin' } }),
      );
      const target = await host.with({ keyFile: undefined, agent: socket }).locate();
      expect(await run(target, ['true'])).toMatchObject({ code: 0 });
    });

    it('is refused with a key that the host does not know', async () => {
      const host = await boot();
      await expect(host.with({ keyFile: host.machine.strangerKeyFile }).locate()).rejects.toMatchObject({
        class: 'terminal',
        reason: 'AuthenticationFailed',
      });
    });
  });
});

async function boot(options: SshHostOptions = {}): Promise<SshHost> {
  const host = await SshHost.boot(options);
  onTestFinished(() => host.close());
  return host;
}

function run(
  target: WorkspaceTarget,
  argv: readonly string[],
  options: Partial<Parameters<WorkspaceTarget['run']>[1]> = {},
): ReturnType<WorkspaceTarget['run']> {
  return target.run(argv, { as: 'observer', deadlineMs: 30_000, signal: SIGNAL, ...options });
}

async function* zeros(bytes: number): AsyncGenerator<Buffer> {
  for (let left = bytes; left > 0; left -= 65_536) yield Buffer.alloc(Math.min(left, 65_536));
}
