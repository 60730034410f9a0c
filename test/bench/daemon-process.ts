import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { freePort } from '../support/free-port.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** The built daemon as a person starts it, in a process of its own: what it takes is its own, and so is its memory. */
export interface DaemonProcess {
  /** A sample of a metric by its name and labels as they are exposed; 0 where there is none. */
  sample(series: string): Promise<number>;
  /** Resident memory now and at its highest, MiB. */
  memory(): Promise<{ readonly now: number; readonly highest: number }>;
  /** Seconds of processor time so far, without those of its children. */
  processorSeconds(): Promise<number>;
  stop(): Promise<void>;
}

export interface DaemonProcessOptions {
  readonly database: string;
  readonly args: readonly string[];
  /** Where its log goes. */
  readonly directory: string;
  /** Variables besides those that every program has. */
  readonly environment?: Readonly<Record<string, string>>;
}

export async function startDaemonProcess({
  database,
  args,
  directory,
  environment,
}: DaemonProcessOptions): Promise<DaemonProcess> {
  const port = await freePort();
  const log = await open(join(directory, 'daemon.log'), 'a');
  const child = spawn(process.execPath, [MAIN, 'run', '--listen', `127.0.0.1:${port}`, ...args], {
    env: { PATH: process.env['PATH'], HOME: directory, DATABASE_URL: database, ...environment },
    stdio: ['ignore', log.fd, log.fd],
  });
  await log.close();
  const exited = once(child, 'exit');
  const fact = async (file: string): Promise<string> => readFile(`/proc/${child.pid}/${file}`, 'utf8');
  return {
    async sample(series) {
      const response = await fetch(`http://127.0.0.1:${port}/metrics`).catch(() => undefined);
      const line = (await response?.text())?.split('\n').find((one) => one.startsWith(`${series} `));
      return Number(line?.slice(series.length) ?? 0);
    },
    async memory() {
      const status = await fact('status');
      const mebibytes = (name: string): number =>
        Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024;
      return { now: mebibytes('VmRSS'), highest: mebibytes('VmHWM') };
    },
    async processorSeconds() {
      // The name before them may hold spaces, and ends with the last parenthesis.
      const fields = (await fact('stat')).replace(/^.*\) /, '').split(' ');
      return (Number(fields[11]) + Number(fields[12])) / 100;
    },
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Asks again and again until `check` holds. */
export async function until(what: string, check: () => Promise<boolean>, patienceMs = 3_600_000): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!(await check())) {
    if (performance.now() > deadline) throw new Error(`waited in vain until ${what}`);
    await pause(200);
  }
}
