import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

import { timed } from './measure.ts';

export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** Where its complaints go. */
  readonly log: string;
}

/** A controller in a process of its own, which prints `checked` when it has looked at everything once. */
export interface ControllerLife {
  /** From before its start. */
  readonly checkedAfterMs: number;
  /** The most memory that it had resident so far, MiB. */
  highestMemory(): Promise<number>;
  stop(): Promise<void>;
}

export async function startController({ command, args, environment, log }: Program): Promise<ControllerLife> {
  let child: ReturnType<typeof spawn> | undefined;
  const checkedAfterMs = await timed(async () => {
    const started = spawn(command, args, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
    child = started;
    started.stderr.pipe(createWriteStream(log, { flags: 'a' }));
    for await (const line of createInterface(started.stdout)) if (line === 'checked') return;
    throw new Error(`${command} ended: ${await readFile(log, 'utf8')}`);
  });
  return {
    checkedAfterMs,
    async highestMemory() {
      const status = await readFile(`/proc/${child?.pid}/status`, 'utf8');
      return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
    },
    async stop() {
      if (child === undefined || child.exitCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}
