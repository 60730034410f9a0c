import type { App } from '../app.ts';
import type { WorkspaceKey } from '../domain/name.ts';
import type { Clock } from '../ports/clock.ts';
import { Deadline } from '../ports/deadline.ts';
import type { PathStep, PathTrace } from '../ports/path-trace.ts';
import { fail, failureOf, ok, type Seen } from './check.ts';

/** Before the check as a whole ends, so that the steps which came through are told. */
const WALK_DEADLINE_MS = 100_000;
/** From our end of a tunnel being closed to the answer of the other. */
const CLOSE_GRACE_MS = 2_000;

/** What each step of the way to a target came to, in the order in which they ended. */
export class PathRecord implements PathTrace {
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly #steps: PathStep[] = [];
  /** A step fails with the steps in it: whoever is first has the most to tell. */
  readonly #told = new Set<unknown>();
  #onChange: () => void = () => undefined;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.clock = clock;
  }

  onStep(step: PathStep): void {
    if (step.error !== undefined && this.#told.has(step.error)) return;
    this.#told.add(step.error);
    this.#steps.push(step);
    this.#onChange();
  }

  has(error: unknown): boolean {
    return this.#told.has(error);
  }

  seen(): readonly Seen[] {
    return this.#steps.map(seenOf);
  }

  /** Resolves when every tunnel that was opened is closed, or is not within a moment. */
  async untilClosed(clock: Clock): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = clock.setTimer(CLOSE_GRACE_MS, resolve);
      this.#onChange = () => {
        if (this.#openTunnels() > 0) return;
        timer.cancel();
        resolve();
      };
      this.#onChange();
    });
  }

  #openTunnels(): number {
    const opened = this.#steps.filter(({ step, error }) => step === 'tunnel' && error === undefined).length;
    return opened - this.#steps.filter(({ step }) => step === 'tunnel closed').length;
  }
}

/** Goes the way to the target of a workspace. What went wrong, if anything, is among what was told. */
export async function walkTo(
  key: WorkspaceKey,
  app: Pick<App, 'walk'>,
  { record, clock }: { readonly record: PathRecord; readonly clock: Clock },
  signal: AbortSignal,
): Promise<{ readonly isThere: boolean; readonly failure: Seen | undefined }> {
  const deadline = new Deadline(clock, WALK_DEADLINE_MS, signal);
  try {
    const result = await app.walk(key, record, deadline.signal);
    if (result.kind !== 'failed') return { isThere: true, failure: undefined };
    return { isThere: false, failure: record.has(result.error) ? undefined : failureOf(result.error) };
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.cause === undefined) throw error;
    return { isThere: false, failure: lateOn(deadline.ms) };
  } finally {
    deadline.clear();
  }
}

function lateOn(ms: number): Seen {
  return fail(
    `the target was not reached within ${ms / 1000} s`,
    'Look at the step before: what comes after it hangs.',
  );
}

function seenOf({ step, ms, facts, error }: PathStep): Seen {
  const known = Object.entries(facts).filter(([, value]) => value !== undefined);
  const told = known.map(([name, value]) => `${name} ${value}`).join(', ');
  const rest = { step, ms: Math.round(ms), facts: Object.fromEntries(known) };
  if (error === undefined) return { ...ok(told === '' ? 'done' : told), ...rest };
  const failure = failureOf(error);
  return { ...failure, seen: told === '' ? failure.seen : `${failure.seen}; ${told}`, ...rest };
}
