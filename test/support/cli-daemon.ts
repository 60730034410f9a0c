import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const run = promisify(execFile);

/** The built program on one configuration file, as a person or a service manager runs it. */
export class CliInstallation {
  readonly #config: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #daemons = new Set<ChildProcess>();

  /** `config`: path of the configuration file; `home`: nothing outside it is written by default. */
  constructor(config: string, home: string) {
    this.#config = config;
    this.#env = { PATH: process.env['PATH'] ?? '', HOME: home };
  }

  /** Starts one more daemon, and answers at once. Its log is thrown away. */
  daemon(listen: string): ChildProcess {
    const child = spawn(process.execPath, [MAIN, 'run', '--config', this.#config, '--listen', listen], {
      env: this.#env,
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.#daemons.add(child);
    child.once('close', () => this.#daemons.delete(child));
    return child;
  }

  /** Runs one command to its end; rejects when it fails. */
  async command(...argv: readonly string[]): Promise<string> {
    const { stdout } = await run(process.execPath, [MAIN, ...argv, '--config', this.#config], { env: this.#env });
    return stdout;
  }

  /** Ends every daemon that runs. */
  async stop(): Promise<void> {
    await Promise.all([...this.#daemons].map((child) => end(child, 'SIGTERM')));
  }
}

export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill(signal);
  await closed;
}
