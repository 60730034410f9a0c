import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { MAIN, type Place } from './place.ts';
import { endProcess } from './processes.ts';

const START_TIMEOUT_MS = 30_000;
const PORT = 9464;

export interface Daemon {
  /** Rejects when the daemon ends before it was told to, with the end of its log. */
  readonly ended: Promise<never>;
  stop(): Promise<void>;
}

/** `plugset run` as a process of its own, once it is ready. */
export async function startDaemon(place: Place, env: NodeJS.ProcessEnv, url: string): Promise<Daemon> {
  const log = openSync(place.path('daemon.log'), 'w');
  // In a group of its own: the Ctrl-C of a terminal must not reach it before it is told to stop.
  const child = spawn(process.execPath, [MAIN, 'run'], { env, detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  const { pid } = child;
  if (pid === undefined) throw new Error('the daemon could not be started');
  await place.record({ daemon: pid });
  const endNow = (): void => void child.kill('SIGKILL');
  process.once('exit', endNow);
  let isStopping = false;
  const ended = once(child, 'exit').then(async () => {
    if (isStopping) return new Promise<never>(() => undefined);
    const tail = (await readFile(place.path('daemon.log'), 'utf8')).split('\n').slice(-10).join('\n');
    throw new Error(`the daemon has ended; the end of its log:\n${tail}`);
  });
  ended.catch(() => undefined);
  const stop = async (): Promise<void> => {
    isStopping = true;
    await endProcess(pid, 'SIGTERM');
    process.off('exit', endNow);
  };
  try {
    await Promise.race([ready(`${url}/readyz`), ended]);
  } catch (error) {
    await stop();
    throw error;
  }
  return { ended, stop };
}

/** The daemon's usual address, or another one when something listens there. */
export async function freeAddress(): Promise<string> {
  const port = (await canListen(PORT)) ?? (await canListen(0));
  return `127.0.0.1:${port}`;
}

async function canListen(port: number): Promise<number | undefined> {
  const server = createServer();
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  } catch {
    return undefined;
  } finally {
    server.close();
  }
}

async function ready(url: string): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const response = await fetch(url).catch(() => undefined);
    if (response?.ok === true) return;
    if (performance.now() > deadline) throw new Error(`the daemon does not become ready at ${url}`);
    await pause(50);
  }
}
