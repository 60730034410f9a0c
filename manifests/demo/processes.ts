import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

const PATIENCE_MS = 10_000;

/** Asks a process to end, by its id, and kills it when it takes too long. Resolves when it is gone. */
export async function endProcess(pid: number, signal: NodeJS.Signals): Promise<void> {
  if (!send(pid, signal) || (await isGone(pid))) return;
  send(pid, 'SIGKILL');
  await isGone(pid);
}

/** Its command line; empty when there is no such process. A pid alone proves nothing: systems use them again. */
export function commandOf(pid: number): string {
  try {
    // A slim machine has no ps.
    if (process.platform === 'linux') return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    return execFileSync('ps', ['-o', 'args=', '-p', String(pid)], { encoding: 'utf8' });
  } catch {
    return '';
  }
}

/** Its start time and command line: what tells it from a later process with the same pid; empty when it is gone. */
export function identityOf(pid: number): string {
  try {
    if (process.platform !== 'linux') {
      return execFileSync('ps', ['-o', 'lstart=,args=', '-p', String(pid)], { encoding: 'utf8' });
    }
    // The 22nd field; the second one is the name in brackets, and may hold anything.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const command = commandOf(pid);
    return command === '' ? '' : `${fields[19]} ${command}`;
  } catch {
    return '';
  }
}

async function isGone(pid: number): Promise<boolean> {
  const deadline = performance.now() + PATIENCE_MS;
  // One that ended and that nobody has collected has no command line any more.
  while (commandOf(pid) !== '') {
    if (performance.now() > deadline) return false;
    await pause(20);
  }
  return true;
}

function send(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
