import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync, closeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

import type Docker from 'dockerode';

import type { Backend } from './backend.ts';
import { connectDocker, removeTestThings } from './docker-client.ts';
import { eventually } from './eventually.ts';
import { findBusybox } from './docker-images.ts';

const START_MS = 60_000;
const STOP_MS = 30_000;

/** A real engine: one that is named or found running, else, as root, one of our own that leaves nothing behind. */
export async function startDocker(): Promise<Backend> {
  // Every image is made of the host's own programs: nothing is pulled.
  if (process.platform !== 'linux') return { missing: 'test images are made of Linux programs, and this is not Linux' };
  if (findBusybox() === undefined)
    return { missing: 'a static busybox to make images of (Debian: apt install busybox-static)' };
  const named = process.env['PLUGSET_TEST_DOCKER_HOST'] ?? process.env['DOCKER_HOST'];
  for (const address of named === undefined ? ['unix:///var/run/docker.sock'] : [named]) {
    const docker = connectDocker(address);
    if (await answers(docker))
      return { address, how: `the engine at ${address}`, stop: () => removeTestThings(docker) };
  }
  if (named !== undefined) return { missing: `the engine at ${named} does not answer` };
  const lacks = await findDockerd();
  if ('missing' in lacks)
    return {
      missing: `no engine answers, and none can be started: ${lacks.missing} (or set PLUGSET_TEST_DOCKER_HOST)`,
    };
  const own = await OwnDockerd.start();
  return {
    address: own.address,
    how: 'a dockerd of its own',
    ...(own.pid === undefined ? {} : { pid: own.pid }),
    stop: () => own.stop(),
  };
}

/** Whether tests may start engines of their own, to stop them as they like. */
export async function findDockerd(): Promise<Backend> {
  if (process.platform !== 'linux') return { missing: 'test images are made of Linux programs, and this is not Linux' };
  if (findBusybox() === undefined)
    return { missing: 'a static busybox to make images of (Debian: apt install busybox-static)' };
  if (process.getuid?.() !== 0) return { missing: 'only root can start a dockerd' };
  if (spawnSync('dockerd', ['--version']).error !== undefined)
    return { missing: 'dockerd (Debian: apt install docker.io)' };
  return { address: 'dockerd', how: 'started by whoever needs one', stop: async () => undefined };
}

/** An engine that can be away for a while, and leaves nothing behind. */
export class OwnDockerd {
  readonly address: string;
  readonly #root: string;
  #child: ChildProcess | undefined;

  private constructor(root: string) {
    this.#root = root;
    this.address = `unix://${root}/docker.sock`;
  }

  static async start(): Promise<OwnDockerd> {
    const own = new OwnDockerd(mkdtempSync(join(tmpdir(), 'plugset-dockerd-')));
    try {
      await own.resume();
      return own;
    } catch (error) {
      await own.stop();
      throw error;
    }
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Ends it, and with it every container; what they wrote stays. */
  async pause(): Promise<void> {
    if (this.#child !== undefined) await endByPid(this.#child);
  }

  /** Starts it, again after {@link pause}; containers come back as their restart policy says. */
  async resume(): Promise<void> {
    const log = join(this.#root, 'log');
    const child = spawnDockerd(this.#root, this.address, log);
    this.#child = child;
    const docker = connectDocker(this.address);
    try {
      await eventually(async () => {
        if (child.exitCode !== null) throw new Error(`dockerd ended with code ${child.exitCode}`);
        if (!(await answers(docker))) throw new Error('dockerd does not answer');
      }, START_MS);
    } catch (error) {
      throw new Error(`dockerd did not start:\n${readFileSync(log, 'utf8').slice(-2000)}`, { cause: error });
    }
  }

  /** Ends it and removes everything it wrote. */
  async stop(): Promise<void> {
    if (this.#child?.exitCode === null) await removeTestThings(connectDocker(this.address)).catch(() => undefined);
    await this.pause();
    unmountBelow(this.#root);
    rmSync(this.#root, { recursive: true, force: true });
  }
}

function spawnDockerd(root: string, address: string, log: string): ChildProcess {
  const fd = openSync(log, 'a');
  // No network and no iptables: no test needs them, and the machine's own rules stay as they are.
  const flags = [
    '--host',
    address,
    '--data-root',
    join(root, 'data'),
    '--exec-root',
    join(root, 'exec'),
    '--pidfile',
    join(root, 'pid'),
    '--bridge',
    'none',
    '--iptables=false',
    '--ip6tables=false',
    '--ip-forward=false',
    '--ip-masq=false',
    '--shutdown-timeout',
    '1',
    '--log-level',
    'warn',
  ];
  const child = spawn('dockerd', flags, { stdio: ['ignore', fd, fd] });
  closeSync(fd);
  return child;
}

async function answers(docker: Docker): Promise<boolean> {
  const ping = docker.ping().then(
    () => true,
    () => false,
  );
  return Promise.race([ping, pause(3_000, false, { ref: false })]);
}

async function endByPid(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const late = await Promise.race([ended.then(() => false), pause(STOP_MS, true, { ref: false })]);
  if (!late) return;
  child.kill('SIGKILL');
  await ended;
}

/** dockerd leaves its network namespace mounted, and a killed one the containers' file systems. */
function unmountBelow(root: string): void {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${root}/`));
  for (const path of mounts.toReversed()) spawnSync('umount', ['-l', path]);
}
