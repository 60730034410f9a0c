import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import type { Config } from '../../src/config.ts';

export interface Fault {
  readonly phase: string;
  /** The how-manieth entry into the phase. */
  readonly nth: number;
  readonly signal: 'SIGKILL' | 'SIGSTOP';
  /** Milliseconds after the entry. */
  readonly afterMs?: number;
}

/** A daemon in a process of its own. */
export interface Daemon {
  readonly process: ChildProcess;
  readonly lines: readonly DaemonLine[];
  /** The next line (or an earlier one) that `matches`. */
  line(matches: (line: DaemonLine) => boolean): Promise<DaemonLine>;
  signal(signal: NodeJS.Signals): void;
  /** Resolves when the process has ended, whatever ended it. */
  ended(): Promise<void>;
}

export type DaemonLine = Readonly<Record<string, unknown>> & { readonly message: string };

const ENTRY = fileURLToPath(new URL('./faulty-daemon.mjs', import.meta.url));
const BUILT = fileURLToPath(new URL('../../dist/app.js', import.meta.url));

/** Starts the built program; whoever starts it ends it. */
export async function startDaemon(config: Config, fault?: Fault): Promise<Daemon> {
  await access(BUILT).catch(() => {
    throw new Error('dist/ is missing; run npm run build (npm test does)');
  });
  const child = spawn(process.execPath, [ENTRY], {
    env: {
      PATH: process.env['PATH'],
      PLUGSET_TEST_CONFIG: JSON.stringify(config),
      ...(fault === undefined ? {} : { PLUGSET_TEST_FAULT: JSON.stringify(fault) }),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  const lines: DaemonLine[] = [];
  const waiters = new Set<() => void>();
  const reader = createInterface({ input: child.stdout });
  reader.on('line', (text) => {
    lines.push(JSON.parse(text) as DaemonLine);
    for (const wake of waiters) wake();
  });
  child.on('close', () => {
    for (const wake of waiters) wake();
  });
  return {
    process: child,
    lines,
    line: (matches) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = lines.find(matches);
          if (found === undefined && child.exitCode === null && child.signalCode === null) return;
          waiters.delete(look);
          if (found === undefined)
            reject(new Error(`the daemon ended without that line; its last: ${JSON.stringify(lines.at(-1))}`));
          else resolve(found);
        };
        waiters.add(look);
        look();
      }),
    signal: (signal) => void child.kill(signal),
    ended: async () => {
      await exited;
    },
  };
}

/** The number of its newest turn. */
export function turnOf({ lines }: Pick<Daemon, 'lines'>): number {
  const line = lines.findLast(({ message }) => message === 'leading');
  return (line?.['fence'] as { n: number } | undefined)?.n ?? Number.NaN;
}
