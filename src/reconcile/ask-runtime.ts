import type { HostPlace } from '../ports/plugin-host.ts';
import type { Pass } from './pass.ts';

const DEADLINE_MS = 30_000;
const MOST_BYTES = 64 * 1024;

/**
 * What a command of the profile answers on the target, as exit code, run as the owner of the plugins: an agent can put a program of its own
 * in the place of any. `undefined`: nobody knows, be it that it did not come to its end or is not there.
 */
export async function askRuntime(
  { observation, logger, signal }: Pass,
  { profile, target }: HostPlace,
  argv: readonly string[],
): Promise<number | undefined> {
  const as = profile.owner === 'configDir' ? observation?.owner : profile.owner;
  if (as === undefined) return undefined;
  try {
    const result = await target.run(argv, { as, deadlineMs: DEADLINE_MS, signal, maxOutputBytes: MOST_BYTES });
    if (result.kind === 'exited' && result.code !== 126 && result.code !== 127) return result.code;
    const how = result.kind === 'unknown' ? result.message : 'it cannot be run';
    logger.warn('a command of the profile gave no answer', { command: argv[0], how });
  } catch (error) {
    signal.throwIfAborted();
    logger.warn('a command of the profile gave no answer', { command: argv[0], error });
  }
  return undefined;
}
