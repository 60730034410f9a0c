import { execFile } from 'node:child_process';
import { access, readFile, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';

import { describe, expect, it, onTestFinished } from 'vitest';

import { eventually } from '../../support/eventually.ts';
import { FaultProxy } from '../../support/fault-proxy.ts';
import { withBackend } from '../../support/backend.ts';
import { SshMachine, type SshMachineOptions } from '../../support/machine/ssh-machine.ts';

const run = promisify(execFile);

await withBackend('machine', () => {
  describe('SshMachine', () => {
    it('lets its user in, who may become root, onto a disk of its own', async () => {
      const one = await boot();
      const other = await boot();
      await ssh(one, 'sudo -n mkdir /configs && echo one >mine && sudo -n install mine /configs');
      expect(await readFile(`${one.machine.root}/configs/mine`, 'utf8')).toBe('one\n');
      expect(await ssh(other, 'ls -A / ~')).not.toMatch(/configs|mine/);
      await expect(access('/configs')).rejects.toMatchObject({ code: 'ENOENT' });
    });

    it('refuses sudo where it is told to, and a stranger', async () => {
      const machine = await boot({ users: [{ name: 'agent', uid: 1500, sudo: false }] });
      expect(await ssh(machine, 'id -u', { user: 'agent' })).toBe('1500\n');
      await expect(ssh(machine, 'sudo -n true', { user: 'agent' })).rejects.toMatchObject({ code: 1 });
      await expect(ssh(machine, 'true', { user: 'agent', key: machine.strangerKeyFile })).rejects.toMatchObject({
        code: 255,
      });
    });

    it('keeps its disk through a power cut and loses everything that ran', async () => {
      const machine = await boot();
      await ssh(machine, 'touch kept; sleep 12345 >/dev/null 2>&1 </dev/null &');
      // The shell goes before what it left behind has become what it is to be.
      await eventually(async () => expect(await machine.machine.commandLines()).toContain('sleep 12345'));
      await machine.halt();
      expect(await machine.machine.commandLines()).toHaveLength(1);
      await machine.startSshd();
      expect(await ssh(machine, 'ls')).toBe('kept\n');
    });

    it('is known by other keys once they were changed', async () => {
      const machine = await boot();
      const [before] = machine.hostKeys;
      const [after] = await machine.changeHostKeys();
      expect(after?.fingerprint).not.toBe(before?.fingerprint);
      await expect(ssh(machine, 'true')).rejects.toMatchObject({ code: 255 });
      await writeFile(machine.knownHostsFile, `[127.0.0.1]:${machine.port} ${after?.line}\n`);
      expect(await ssh(machine, 'echo in')).toBe('in\n');
    });

    it('says nothing while it is frozen', async () => {
      const machine = await boot();
      await machine.machine.freeze();
      const running = ssh(machine, 'echo in');
      await expect(ssh(machine, 'true', { timeoutSeconds: 1 })).rejects.toMatchObject({ code: 255 });
      await machine.machine.thaw();
      expect(await running).toBe('in\n');
    });

    it('is reached through a slow line, which may be cut in mid-transfer', async () => {
      const machine = await boot({ sshdConfig: ['RekeyLimit 8M'] });
      const line = await FaultProxy.open(`tcp://127.0.0.1:${machine.port}`, 'tcp');
      onTestFinished(() => line.close());
      const through = ['-o', 'HostKeyAlias=machine', '-p', new URL(line.address).port];
      await writeFile(machine.knownHostsFile, machine.hostKeys.map((key) => `machine ${key.line}\n`).join(''));
      line.delay(50, 'both');
      expect(await ssh(machine, 'echo in', { through })).toBe('in\n');
      line.delay(0);
      expect(
        await ssh(machine, 'head -c 20000000 /dev/zero | wc -c; head -c 20000000 /dev/zero', { through }),
      ).toHaveLength(20_000_009);
      line.cutAfter(1_000_000);
      await expect(ssh(machine, 'head -c 20000000 /dev/zero', { through })).rejects.toMatchObject({ code: 255 });
      expect(await ssh(machine, 'echo in', { through })).toBe('in\n');
    });

    it('leaves nothing behind', async () => {
      const machine = await boot();
      await machine.close();
      for (const path of [machine.machine.root, machine.clientKeyFile])
        await expect(access(path)).rejects.toMatchObject({ code: 'ENOENT' });
    });
  });
});

async function boot(options?: SshMachineOptions): Promise<SshMachine> {
  const machine = await SshMachine.boot(options);
  onTestFinished(() => machine.close());
  return machine;
}

interface Login {
  readonly user?: string;
  readonly key?: string;
  readonly timeoutSeconds?: number;
  /** Options that go before all others, and so win. */
  readonly through?: readonly string[];
}

async function ssh(machine: SshMachine, command: string, login: Login = {}): Promise<string> {
  const { user = 'ubuntu', key = machine.clientKeyFile, timeoutSeconds = 30, through = [] } = login;
  const known = ['-o', `UserKnownHostsFile=${machine.knownHostsFile}`, '-o', 'GlobalKnownHostsFile=none'];
  const options = [...known, '-o', 'StrictHostKeyChecking=yes', '-o', `ConnectTimeout=${timeoutSeconds}`];
  const as = ['-F', 'none', '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes', '-i', key, '-p', `${machine.port}`];
  const maxBuffer = 2 ** 26;
  return (await run('ssh', [...through, ...as, ...options, `${user}@127.0.0.1`, command], { maxBuffer })).stdout;
}
