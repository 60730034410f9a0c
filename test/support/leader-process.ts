import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { FilesLeadership } from '../../src/adapters/files/files-leadership.ts';
import { SystemClock } from '../../src/adapters/system/clock.ts';
import { aborted } from '../../src/domain/errors.ts';
import type { Fence } from '../../src/domain/fence.ts';
import type { Leadership, LeaseHolder, Term } from '../../src/ports/leadership.ts';
import { RecordingLogger } from './recording-logger.ts';

const ENTRY = fileURLToPath(new URL('./files-leader.mjs', import.meta.url));
const BUILT = fileURLToPath(new URL('../../dist/adapters/files/files-leadership.js', import.meta.url));

interface Report {
  readonly waiting?: string;
  /** Null: it can ask again. */
  readonly unable?: string | null;
  readonly fence?: Fence;
  readonly over?: boolean;
  readonly released?: boolean;
  readonly failed?: string;
}

/** A candidate for the lease of a state directory in a process of its own. */
export class LeaderProcess implements Leadership {
  readonly holder: string;
  readonly #stateDirectory: string;
  readonly #child: ChildProcess;

  constructor(stateDirectory: string, holder: string) {
    this.holder = holder;
    this.#stateDirectory = stateDirectory;
    this.#child = fork(ENTRY, [stateDirectory, holder], { env: { PATH: process.env['PATH'] } });
    this.#child.setMaxListeners(0);
  }

  static async start(stateDirectory: string, holder: string): Promise<LeaderProcess> {
    await access(BUILT).catch(() => {
      throw new Error('dist/ is missing; run npm run build (npm test does)');
    });
    return new LeaderProcess(stateDirectory, holder);
  }

  async acquire(
    signal: AbortSignal,
    onWaiting?: (holder: string) => void,
    onUnable?: (why: string | undefined) => void,
  ): Promise<Term> {
    if (signal.aborted) throw aborted('from the start', signal.reason);
    const stop = (): void => this.#send('stop');
    signal.addEventListener('abort', stop, { once: true });
    const report = this.#report(({ fence, failed, unable, waiting }) => {
      if (waiting !== undefined) onWaiting?.(waiting);
      if (unable !== undefined) onUnable?.(unable ?? undefined);
      return fence !== undefined || failed !== undefined;
    });
    this.#send('acquire');
    const { fence } = await report;
    signal.removeEventListener('abort', stop);
    if (fence === undefined) throw aborted('no longer waiting', signal.reason);
    return this.#term(fence);
  }

  /** As another process sees it. */
  lastHolder(): Promise<LeaseHolder | undefined> {
    const logger = new RecordingLogger();
    return new FilesLeadership({ stateDirectory: this.#stateDirectory, clock: new SystemClock(), logger }).lastHolder();
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  #term(fence: Fence): Term {
    const over = new AbortController();
    void this.#report((report) => report.over === true).then(() => over.abort());
    let released: Promise<unknown> | undefined;
    const release = async (): Promise<void> => {
      over.abort();
      if (!this.#child.connected) return;
      released ??= this.#request('release', (report) => report.released === true);
      await released;
    };
    return { fence, signal: over.signal, release };
  }

  #request(command: string, isAnswer: (report: Report) => boolean): Promise<Report> {
    const answer = this.#report(isAnswer);
    this.#send(command);
    return answer;
  }

  #report(isIt: (report: Report) => boolean): Promise<Report> {
    return new Promise((resolve) => {
      const look = (message: unknown): void => {
        const report = message as Report;
        if (!isIt(report)) return;
        this.#child.off('message', look);
        resolve(report);
      };
      this.#child.on('message', look);
      this.#child.once('exit', () => look({ over: true, released: true, failed: 'died' }));
    });
  }

  #send(command: string): void {
    if (this.#child.connected) this.#child.send(command);
  }
}
