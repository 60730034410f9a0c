import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { access, appendFile, chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Backend } from '../backend.ts';
import { eventually } from '../eventually.ts';
import { freePort } from '../free-port.ts';
import { Machine } from './machine.ts';

const run = promisify(execFile);
const SSHD = '/usr/sbin/sshd';

export interface MachineUser {
  readonly name: string;
  /** Also its only group. */
  readonly uid: number;
  /** Whether `sudo -n` lets it become anybody. Default: yes, as cloud images have it. */
  readonly sudo?: boolean;
  /** Login shell; default `/bin/bash`. */
  readonly shell?: string;
}

export interface SshMachineOptions {
  /** Default: one, `ubuntu` with uid 1000. */
  readonly users?: readonly MachineUser[];
  /** Lines of sshd_config that go before all others, and so win: `RekeyLimit 8M`, `MaxSessions 2`. */
  readonly sshdConfig?: readonly string[];
  readonly diskSize?: string;
  readonly hostname?: string;
}

/** A public key of the machine, as a client may know it beforehand. */
export interface HostKey {
  /** `ssh-ed25519`, `ecdsa-sha2-nistp256`. */
  readonly type: string;
  /** Type and key in base64, without a comment. */
  readonly line: string;
  /** `SHA256:…`, as `ssh-keygen -l` prints it. */
  readonly fingerprint: string;
}

/** Says what is missing for {@link SshMachine.boot}; for `withBackend('machine', …)`. Each test boots its own. */
export async function findMachine(): Promise<Backend> {
  if (process.getuid?.() !== 0) return { missing: 'machines are made by root' };
  for (const program of [SSHD, '/usr/bin/sudo', '/usr/bin/unshare', '/usr/bin/nsenter']) {
    if (!(await exists(program)))
      return { missing: `there is no ${program} (Debian: openssh-server, sudo, util-linux)` };
  }
  try {
    const machine = await Machine.boot('trial', '1m');
    await machine.destroy();
  } catch (error) {
    return { missing: String(error) };
  }
  return { address: '', how: 'each test boots its own', stop: async () => undefined };
}

/** A {@link Machine} that OpenSSH's own server lets people into, with a key file for each user. */
export class SshMachine {
  readonly machine: Machine;
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly hostKeys: readonly HostKey[];
  /** Private key, without a passphrase, that gets in as every user. */
  readonly clientKeyFile: string;
  /** Private key that gets in as nobody. */
  readonly strangerKeyFile: string;
  /** Holds the machine's keys under `[127.0.0.1]:port`. */
  readonly knownHostsFile: string;
  readonly #dir: string;

  private constructor(machine: Machine, port: number, dir: string, hostKeys: readonly HostKey[]) {
    this.machine = machine;
    this.port = port;
    this.#dir = dir;
    this.hostKeys = hostKeys;
    this.clientKeyFile = join(dir, 'client');
    this.strangerKeyFile = join(dir, 'stranger');
    this.knownHostsFile = join(dir, 'known_hosts');
  }

  static async boot(options: SshMachineOptions = {}): Promise<SshMachine> {
    const dir = await mkdtemp(join(tmpdir(), 'plugset-machine-'));
    const machine = await Machine.boot(options.hostname ?? 'machine', options.diskSize);
    try {
      const port = await freePort();
      for (const name of ['client', 'stranger']) await makeKey(join(dir, name));
      await addUsers(
        machine,
        options.users ?? [{ name: 'ubuntu', uid: 1000 }],
        await readFile(join(dir, 'client.pub')),
      );
      const hostKeys = await makeHostKeys(machine);
      const known = hostKeys.map(({ line }) => `[127.0.0.1]:${port} ${line}\n`);
      await writeFile(join(dir, 'known_hosts'), known.join(''));
      await writeFile(`${machine.root}/etc/ssh/sshd_config`, configuration(port, options.sshdConfig ?? []));
      const sshMachine = new SshMachine(machine, port, dir, hostKeys);
      await sshMachine.startSshd();
      return sshMachine;
    } catch (error) {
      await machine.destroy();
      await rm(dir, { recursive: true });
      throw error;
    }
  }

  async startSshd(): Promise<void> {
    await this.machine.exec([SSHD, '-E', '/var/log/sshd.log']);
    await eventually(() => greeting(this.port));
  }

  /** Ends everything that runs on it, as a power cut does; the disk stays. {@link startSshd} brings it back. */
  async halt(): Promise<void> {
    await this.machine.signalAll('KILL');
    await eventually(async () => {
      if ((await this.machine.commandLines()).length > 1) throw new Error('something is still running');
    });
  }

  /** Gives it other host keys, as whoever takes over its address would have. Counts for connections from now on. */
  async changeHostKeys(): Promise<readonly HostKey[]> {
    await this.halt();
    const hostKeys = await makeHostKeys(this.machine);
    await this.startSshd();
    return hostKeys;
  }

  /** What sshd said, for a test that failed. */
  async log(): Promise<string> {
    return readFile(`${this.machine.root}/var/log/sshd.log`, 'utf8');
  }

  async close(): Promise<void> {
    await this.machine.destroy();
    await rm(this.#dir, { recursive: true, force: true });
  }
}

async function addUsers(machine: Machine, users: readonly MachineUser[], publicKey: Buffer): Promise<void> {
  const etc = `${machine.root}/etc`;
  const others = (await readFile(`${etc}/passwd`, 'utf8')).split('\n').filter(isSystemUser);
  await writeFile(`${etc}/passwd`, others.map((line) => `${line}\n`).join(''));
  for (const { name, uid, sudo = true, shell = '/bin/bash' } of users) {
    const home = `/home/${name}`;
    await appendFile(`${etc}/passwd`, `${name}:x:${uid}:${uid}::${home}:${shell}\n`);
    await appendFile(`${etc}/group`, `${name}:x:${uid}:\n`);
    // No password, and yet not locked, which sshd would take for a reason to refuse keys too.
    await appendFile(`${etc}/shadow`, `${name}:*:20000:0:99999:7:::\n`);
    if (sudo) await writeFile(`${etc}/sudoers.d/${name}`, `${name} ALL=(ALL) NOPASSWD:ALL\n`, { mode: 0o440 });
    await mkdir(`${machine.root}${home}/.ssh`, { recursive: true, mode: 0o700 });
    await writeFile(`${machine.root}${home}/.ssh/authorized_keys`, publicKey, { mode: 0o600 });
    for (const path of ['', '/.ssh', '/.ssh/authorized_keys']) await chown(`${machine.root}${home}${path}`, uid, uid);
  }
}

/** Those of the machine that the tests run on stay outside. */
function isSystemUser(line: string): boolean {
  const uid = Number(line.split(':')[2]);
  return uid < 1000 || uid === 65_534;
}

async function makeHostKeys(machine: Machine): Promise<readonly HostKey[]> {
  return Promise.all(
    ['ed25519', 'ecdsa'].map(async (kind) => {
      const file = `${machine.root}/etc/ssh/ssh_host_${kind}_key`;
      await rm(file, { force: true });
      await makeKey(file, kind);
      await chmod(file, 0o600);
      const [type = '', key = ''] = (await readFile(`${file}.pub`, 'utf8')).split(' ');
      const hash = createHash('sha256').update(Buffer.from(key, 'base64')).digest('base64').replaceAll('=', '');
      return { type, line: `${type} ${key}`, fingerprint: `SHA256:${hash}` };
    }),
  );
}

async function makeKey(file: string, kind = 'ed25519'): Promise<void> {
  await run('ssh-keygen', ['-q', '-t', kind, '-N', '', '-C', 'test', '-f', file]);
}

function configuration(port: number, first: readonly string[]): string {
  return [
    ...first,
    `ListenAddress 127.0.0.1:${port}`,
    'HostKey /etc/ssh/ssh_host_ed25519_key',
    'HostKey /etc/ssh/ssh_host_ecdsa_key',
    'UsePAM no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin no',
    'Subsystem sftp internal-sftp',
    '',
  ].join('\n');
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function greeting(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'data');
  } finally {
    socket.destroy();
  }
}
