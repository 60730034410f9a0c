import type { CliContext } from './context.ts';

/** Longer than looks take where everything answers. */
const QUIET_MS = 3000;

/** Tells whoever watches that `work` goes on and with what, once, when it takes long: what does not answer has a deadline. */
export async function patiently<T>(
  { clock, stderr }: Pick<CliContext, 'clock' | 'stderr'>,
  what: () => string,
  work: Promise<T>,
): Promise<T> {
  const timer = clock.setTimer(QUIET_MS, () => {
    if (stderr.isTerminal) stderr.write(`still looking at ${what()}; what does not answer is given up in the end\n`);
  });
  try {
    return await work;
  } finally {
    timer.cancel();
  }
}
