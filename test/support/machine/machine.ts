import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile, readdir, readlink } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const INIT = fileURLToPath(new URL('init.sh', import.meta.url));

/**
 * A process tree with a disk, users and process numbers of its own: as much of a machine as a test needs, in a tenth of a
 * second and without an engine. It shares the network of this machine. Runs as root or not at all.
 */
export class Machine {
  /** Where its disk can be read and written from outside. */
  readonly root: string;
  readonly #pid: number;
  readonly #unshare: ChildProcess;

  private constructor(unshare: ChildProcess, pid: number) {
    this.#unshare = unshare;
    this.#pid = pid;
    this.root = `/proc/${pid}/root`;
  }

  /** `diskSize` as tmpfs takes it; memory is used only for what is written. */
  static async boot(name: string, diskSize = '512m'): Promise<Machine> {
    const namespaces = ['--mount', '--pid', '--uts', '--fork', '--kill-child', '--propagation', 'private'];
    const unshare = spawn('unshare', [...namespaces, 'sh', INIT, diskSize, name], { stdio: 'pipe' });
    let said = '';
    unshare.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    // The cord may be pulled while somebody still writes to it.
    unshare.stdin.on('error', () => undefined);
    const up = await Promise.race([once(unshare.stdout, 'data'), once(unshare, 'close')]);
    if (!Buffer.isBuffer(up[0])) throw new Error(`the machine did not come up: ${said}`);
    return new Machine(unshare, await onlyChildOf(unshare.pid));
  }

  /** Runs a program as root on the machine, past every network and every sshd; a failure is thrown. */
  async exec(argv: readonly string[], stdin = ''): Promise<string> {
    const enter = ['--target', String(this.#pid), '--mount', '--pid', '--uts', '--root', '--wd'];
    const running = run('nsenter', [...enter, '--', ...argv], { env: { PATH }, maxBuffer: 2 ** 26 });
    // A program may end before it has read anything.
    running.child.stdin?.on('error', () => undefined);
    running.child.stdin?.end(stdin);
    return (await running).stdout;
  }

  async shell(script: string, ...args: readonly string[]): Promise<string> {
    return this.exec(['sh', '-euc', script, 'sh', ...args]);
  }

  /** Command lines of everything that runs on it, however it came there. */
  async commandLines(): Promise<readonly string[]> {
    const namespace = await readlink(`/proc/${this.#pid}/ns/pid`);
    const lines = await Promise.all(
      (await readdir('/proc')).filter(isPid).map(async (pid) => {
        try {
          if ((await readlink(`/proc/${pid}/ns/pid`)) !== namespace) return '';
          return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).replaceAll('\0', ' ').trim();
        } catch {
          return ''; // It ended while we looked.
        }
      }),
    );
    return lines.filter((line) => line !== '');
  }

  /** Stops everything on it where it stands; the kernel still takes what comes over the network. */
  async freeze(): Promise<void> {
    await this.signalAll('STOP');
  }

  async thaw(): Promise<void> {
    await this.signalAll('CONT');
  }

  /** Sends a signal to everything that runs on it but its init. */
  async signalAll(signal: 'STOP' | 'CONT' | 'KILL'): Promise<void> {
    // The one that sends it is spared by the kernel. It fails when there is nobody else.
    await this.shell('kill -s "$1" -- -1 || :', signal);
  }

  /** Takes it away, with all that runs on it and all that is on its disk. */
  async destroy(): Promise<void> {
    if (this.#unshare.exitCode !== null || this.#unshare.signalCode !== null) return;
    const ended = once(this.#unshare, 'close');
    // Its end takes init along (--kill-child), which takes the rest.
    this.#unshare.kill('SIGKILL');
    await ended;
  }
}

function isPid(name: string): boolean {
  return /^[0-9]+$/.test(name);
}

async function onlyChildOf(pid = 0): Promise<number> {
  const child = Number(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'));
  if (!Number.isInteger(child) || child === 0) throw new Error(`process ${pid} has no child, or several`);
  return child;
}
