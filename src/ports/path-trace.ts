import type { Clock } from './clock.ts';

/** What was seen in a step, in the order in which it is told. Names, states, request ids, times; never a secret. */
export type Facts = Readonly<Record<string, string | number | boolean | undefined>>;

/** One step on the way to a target, when it has ended. */
export interface PathStep {
  /** For people: `instance`, `tunnel`, `host key`. */
  readonly step: string;
  readonly ms: number;
  readonly facts: Facts;
  /** Why the way ended here. The steps around it end with the same error, after it. */
  readonly error?: unknown;
}

/** Hears of every step on the way to a target: whoever goes that way for work needs no such ear, and has none. */
export interface PathTrace {
  readonly clock: Pick<Clock, 'monotonic'>;
  /** Must not throw. */
  onStep(step: PathStep): void;
}

/** Adds to what was seen. */
export type Saw = (facts: Facts) => void;

/** Takes a step of the way, and tells how it went to whoever listens. */
export async function traced<T>(
  trace: PathTrace | undefined,
  step: string,
  work: (saw: Saw) => Promise<T>,
): Promise<T> {
  if (trace === undefined) return work(() => undefined);
  const startedMs = trace.clock.monotonic();
  let facts: Facts = {};
  const tell = (error?: unknown): void => {
    const ms = trace.clock.monotonic() - startedMs;
    trace.onStep({ step, ms, facts, ...(error === undefined ? {} : { error }) });
  };
  try {
    const result = await work((more) => (facts = { ...facts, ...more }));
    tell();
    return result;
  } catch (error) {
    tell(error);
    throw error;
  }
}
