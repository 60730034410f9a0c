import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import type { SshMachine } from '../support/machine/ssh-machine.ts';
import { PLUGIN_NAMES } from './plugins.ts';

const ANSIBLE = fileURLToPath(new URL('peers/ansible-ssh.sh', import.meta.url));
const PIPE = 'tar -C "$1" -cf - . | ssh -F "$2" bench tar -C "$3" -xf -';

export interface OpenSshOptions {
  /** Tells apart several clients of one machine. Default: `ssh`. */
  readonly name?: string;
  /** Lines for its configuration: `Ciphers aes128-gcm@openssh.com`. */
  readonly settings?: readonly string[];
}

/** What a command reads and writes, where that is something: files that are open. */
export interface OpenSshFiles {
  readonly stdin?: number;
  readonly stdout?: number;
}

/** OpenSSH's own client on a machine, with one connection that all its calls share (ControlMaster). */
export class OpenSsh {
  readonly #config: string;

  private constructor(config: string) {
    this.#config = config;
  }

  static async to(machine: SshMachine, { name = 'ssh', settings = [] }: OpenSshOptions = {}): Promise<OpenSsh> {
    const dir = dirname(machine.clientKeyFile);
    const config = join(dir, `${name}_config`);
    const lines = [
      'Host bench',
      `HostName ${machine.host}`,
      `Port ${machine.port}`,
      'User ubuntu',
      `IdentityFile ${machine.clientKeyFile}`,
      'IdentitiesOnly yes',
      `UserKnownHostsFile ${machine.knownHostsFile}`,
      'ControlMaster auto',
      `ControlPath ${join(dir, `${name}_control`)}`,
      'ControlPersist 600',
      ...settings,
      '',
    ];
    await writeFile(config, lines.join('\n'));
    const client = new OpenSsh(config);
    await client.run('true');
    return client;
  }

  async run(command: string, files: OpenSshFiles = {}): Promise<void> {
    await this.#run('ssh', ['-F', this.#config, 'bench', command], files);
  }

  /** The shortest way from a directory onto a host that a person would type. */
  async tar(from: string, to: string): Promise<void> {
    await this.#run('sh', ['-c', PIPE, 'sh', from, this.#config, to]);
  }

  async ansible(registry: string): Promise<void> {
    await this.#run(ANSIBLE, [registry, JSON.stringify(PLUGIN_NAMES), this.#config]);
  }

  async close(): Promise<void> {
    await this.#run('ssh', ['-F', this.#config, '-O', 'exit', 'bench']);
  }

  async #run(program: string, args: readonly string[], files: OpenSshFiles = {}): Promise<void> {
    const env = { PATH: process.env['PATH'], HOME: dirname(this.#config), LANG: 'C.UTF-8' };
    // The connection that is kept holds on to what it was started with, so nobody waits for the end of a pipe.
    const child = spawn(program, args, { env, stdio: [files.stdin ?? 'ignore', files.stdout ?? 'ignore', 'ignore'] });
    const [code] = (await once(child, 'exit')) as [number | null];
    if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}`);
  }
}
