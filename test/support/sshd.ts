import { execFile, spawn } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import type { Backend } from './backend.ts';
import { eventually } from './eventually.ts';
import { freePort } from './free-port.ts';

const SSHD = '/usr/sbin/sshd';
const run = promisify(execFile);

/** What a test needs to know of the sshd of its run. */
export interface TestSshd {
  readonly port: number;
  /** Line-oriented file that holds the host's key under `[127.0.0.1]:port`. */
  readonly knownHostsFile: string;
  /** Private key that gets in as root. */
  readonly clientKeyFile: string;
  /** Private key that does not. */
  readonly strangerKeyFile: string;
}

/**
 * A real OpenSSH server on a free loopback port, with a host key and a client key of its own, that lets root of this machine
 * in. For a server with users and a disk of its own: `machine/ssh-machine.ts`. Runs as root or not at all.
 */
export async function startSshd(): Promise<Backend> {
  if (process.getuid?.() !== 0) return { missing: 'sshd lets others in only when it is started by root' };
  if (!(await exists(SSHD))) return { missing: `there is no ${SSHD} (Debian: openssh-server)` };
  const dir = await mkdtemp(join(tmpdir(), 'plugset-sshd-'));
  for (const name of ['host', 'client', 'stranger']) {
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(dir, name)]);
  }
  const port = await freePort();
  await writeFile(join(dir, 'known_hosts'), `[127.0.0.1]:${port} ${await readFile(join(dir, 'host.pub'), 'utf8')}`);
  await writeFile(join(dir, 'sshd_config'), configuration(dir, port));
  await writeFile(join(dir, 'port'), String(port));
  // Compiled in as the place to lock itself up in; the package makes it only when the service starts.
  await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
  const server = spawn(SSHD, ['-D', '-e', '-f', join(dir, 'sshd_config')], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  server.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = new Promise<void>((resolve) => server.once('close', () => resolve()));
  await eventually(() => {
    if (server.exitCode !== null) throw new Error(`sshd ended: ${said}`);
    return greeting(port);
  });
  const stop = async (): Promise<void> => {
    server.kill('SIGTERM');
    await ended;
    await rm(dir, { recursive: true, force: true });
  };
  return {
    address: dir,
    how: `started on port ${port}`,
    ...(server.pid === undefined ? {} : { pid: server.pid }),
    stop,
  };
}

/** Takes the address of the back end `sshd` apart. */
export async function sshdAt(address: string): Promise<TestSshd> {
  return {
    port: Number(await readFile(join(address, 'port'), 'utf8')),
    knownHostsFile: join(address, 'known_hosts'),
    clientKeyFile: join(address, 'client'),
    strangerKeyFile: join(address, 'stranger'),
  };
}

function configuration(dir: string, port: number): string {
  return [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${dir}/host`,
    `AuthorizedKeysFile ${dir}/client.pub`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'KbdInteractiveAuthentication no',
    'PermitRootLogin prohibit-password',
    'PidFile none',
    'MaxStartups 100',
    'MaxSessions 100',
    'AcceptEnv GIT_PROTOCOL',
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
  await new Promise<void>((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('data', () => {
      socket.destroy();
      resolve();
    });
    socket.once('error', reject);
  });
}
