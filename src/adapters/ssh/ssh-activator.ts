import { transient, unknownOutcome } from '../../domain/errors.ts';
import type { Activation } from '../../domain/profile.ts';
import type { Activator, RuntimeState, RunResult } from '../../ports/workspace-target.ts';

const ASK_TIMEOUT_MS = 15_000;
/** Stop and start; what hangs on a stop is given up by systemd after 90 s. */
const RESTART_TIMEOUT_MS = 120_000;

/** Runs argv as the user who logs in. Throws what `WorkspaceTarget.run` throws. */
export type RunAsLogin = (argv: readonly string[], deadlineMs: number, signal: AbortSignal) => Promise<RunResult>;

/** Restarts a runtime by the commands of its profile: never the host. */
export class SshActivator implements Activator {
  readonly #description: string;
  readonly #activation: Activation;
  readonly #run: RunAsLogin;

  constructor(description: string, activation: Activation, run: RunAsLogin) {
    this.#description = description;
    this.#activation = activation;
    this.#run = run;
  }

  /** Files stay where they are when a program is restarted. One that does not run was started at the beginning of time. */
  async inspect(_configDir: string, signal: AbortSignal): Promise<RuntimeState> {
    const printed = await this.#ask(this.#activation.startedAt, signal);
    const startedAtMs = printed === '' ? 0 : timeOf(printed);
    if (startedAtMs !== undefined) return { startedAtMs, isStarting: undefined, wouldLose: undefined };
    throw transient(
      'ObserveFailed',
      `${this.#description}: what activation.startedAt of the profile prints is no time`,
    );
  }

  async now(signal: AbortSignal): Promise<number> {
    const nowMs = timeOf(await this.#ask(['date', '+%s'], signal));
    if (nowMs !== undefined) return nowMs;
    throw transient('ObserveFailed', `${this.#description} does not say what time it is there`);
  }

  async restart(signal: AbortSignal): Promise<void> {
    const result = await this.#run(this.#activation.restart, RESTART_TIMEOUT_MS, signal);
    if (result.kind === 'unknown')
      throw unknownOutcome(`nobody can say whether the runtime was restarted: ${result.message}`, result.cause);
    if (result.code === 0) return;
    throw transient(
      'RestartFailed',
      `the restart command of the profile ended with exit code ${result.code} on ${this.#description}`,
      new Error(result.stderr.subarray(0, 2000).toString('utf8')),
    );
  }

  async #ask(argv: readonly string[], signal: AbortSignal): Promise<string> {
    const result = await this.#run(argv, ASK_TIMEOUT_MS, signal);
    if (result.kind === 'exited' && result.code === 0) return result.stdout.toString('utf8').trim();
    const how = result.kind === 'unknown' ? result.message : `exit code ${result.code}`;
    throw transient('ObserveFailed', `${this.#description} does not say when its runtime was started (${how})`);
  }
}

/** Unix milliseconds of Unix seconds, with or without systemd's `@`, or of a date; `undefined` for neither. */
function timeOf(text: string): number | undefined {
  const seconds = /^@?(\d{9,11})(?:\.\d+)?$/.exec(text)?.[1];
  if (seconds !== undefined) return Number(seconds) * 1000;
  // systemd puts the day of the week first, which Date takes for no date together with the year in front.
  const ms = Date.parse(text.replace(/^[A-Z][a-z]{2} (?=\d{4}-)/, ''));
  return Number.isNaN(ms) ? undefined : ms;
}
